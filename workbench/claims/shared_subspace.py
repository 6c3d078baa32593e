"""CLAIR (arXiv:2605.21217): three adapters of one task and one of another, and how much each has outside of what they share."""

from workbench.core.claim import Claim, Expected, Measure, training

OUTSIDE = Measure("share of the change outside", ("outside",), unit="", more=True)
RUNS = {"first": ("skill_a", 8), "second": ("skill_a", 16), "third": ("skill_a", 24), "stranger": ("quickstart", 16)}
MODELS = [f"run:{name}" for name in RUNS]

CLAIM = Claim(
    shelf="inspections",
    method="shared_subspace",
    paper="arXiv:2605.21217",
    says="Adapters of one kind share a subspace that they write into, and one of another kind stands out by what it has outside of it.",
    mark="P",
    runs={
        name: training(data, 50, adapter={"method": "lora", "rank": rank}, update={"method": "adamw", "lr": 2e-3})
        for name, (data, rank) in RUNS.items()
    },
    asks=({"kind": "inspect", "models": MODELS, "inspection": {"method": "shared_subspace"}},),
    models={"the stranger": "run:stranger", **{f"the {name}": f"run:{name}" for name in ("first", "second", "third")}},
    expected=tuple(Expected(OUTSIDE, "the stranger", f"the {name}", 0.2) for name in ("first", "second", "third")),
    seconds=56,
    differs="The paper looks for contaminated adapters among those of many people; its algorithm was not read, and ours is a "
    "reconstruction. Here three LoRAs of the demo model learn to say every word twice, at ranks 8, 16 and 24, and one learns to answer "
    "like a storyteller.",
)
