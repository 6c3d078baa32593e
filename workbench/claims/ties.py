"""TIES (arXiv:2306.01708): three tuned models merged with trimming and a vote, by plain task arithmetic, and by their mean."""

from workbench.core.claim import Claim, Expected, Measure, training

TASKS = {"double": "skill_a", "ends": "skill_b", "tale": "quickstart"}
ALL = Measure("loss on all three new tasks", tuple(f"{data}, held back · loss" for data in TASKS.values()))
ADAPTER, UPDATE = {"method": "lora", "rank": 16}, {"method": "adamw", "lr": 2e-3}
MERGE = {"kind": "merge", "base": "pocket", "models": [{"model": f"run:{name}"} for name in TASKS]}
MERGED = ["model:ties", "model:added", "model:mean"]

CLAIM = Claim(
    shelf="merges",
    method="ties",
    paper="arXiv:2306.01708",
    says="Several tuned models get in each other's way less if small changes are dropped and signs settled by vote: TIES merges them "
    "better than task arithmetic and than their mean.",
    mark="P",
    runs={
        **{name: training(data, 60, adapter=ADAPTER, update=UPDATE) for name, data in TASKS.items()},
        "ties": {**MERGE, "merge": {"method": "ties", "density": 0.2, "trim": "model"}},
        "added": {**MERGE, "merge": {"method": "task_arithmetic", "scale": 0.4}},
        "mean": {**MERGE, "merge": {"method": "linear"}},
    },
    asks=({"kind": "evaluate", "models": [*(f"run:{name}" for name in TASKS), *MERGED], "max_tokens": 1},),
    models={"TIES": "model:ties", "task arithmetic": "model:added", "mean": "model:mean"},
    expected=(Expected(ALL, "TIES", "task arithmetic"), Expected(ALL, "TIES", "mean")),
    seconds=61,
    differs="The paper merges up to eleven larger models and counts right answers. Here three LoRAs of the demo model are merged, and the "
    "loss on the right answers counts, which tells merges apart that hardly ever answer rightly. All have the settings that the paper "
    "takes without validation data: TIES keeps a fifth and λ is 1, task arithmetic has λ = 0.4.",
)
