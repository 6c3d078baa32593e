"""DELLA (arXiv:2406.11617): small changes dropped more often than large ones, beside dropping all alike and dropping the smallest."""

from workbench.core.claim import Claim, Expected, Measure, training

TASKS = {"double": "skill_a", "ends": "skill_b"}
BOTH = Measure("loss on both new tasks", tuple(f"{data}, held back · loss" for data in TASKS.values()))
ADAPTER, UPDATE = {"method": "lora", "rank": 16}, {"method": "adamw", "lr": 2e-3}
MERGE = {"kind": "merge", "base": "pocket", "models": [{"model": f"run:{name}"} for name in TASKS]}
WAYS = {"della": {"epsilon": 0.15}, "dare": {"combine": "ties"}, "ties": {}}

CLAIM = Claim(
    shelf="merges",
    method="della",
    paper="arXiv:2406.11617",
    says="Of several tuned models, dropping small changes more often than large ones leaves a better merge than dropping all alike (DARE) "
    "and than keeping the largest alone (TIES).",
    mark="P",
    runs={
        **{name: training(data, 60, adapter=ADAPTER, update=UPDATE) for name, data in TASKS.items()},
        **{name: {**MERGE, "merge": {"method": name, "density": 0.3, **knobs}} for name, knobs in WAYS.items()},
    },
    asks=({"kind": "evaluate", "models": [*(f"run:{name}" for name in TASKS), *(f"model:{name}" for name in WAYS)], "max_tokens": 1},),
    models={"DELLA": "model:della", "DARE": "model:dare", "TIES": "model:ties"},
    expected=(Expected(BOTH, "DELLA", "DARE"), Expected(BOTH, "DELLA", "TIES")),
    seconds=39,
    differs="The paper merges three models of 13 B parameters and picks the share that is kept for each. Here two LoRAs of the demo model "
    "are merged, three tenths of what each changed are kept by all three methods, and all let what is left vote.",
)
