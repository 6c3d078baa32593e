"""Model Stock (arXiv:2403.19522): two models of one task merged by their angle, beside their mean and each of the two."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on rows kept back", ("skill_a, held back · loss",))
KNOWN = Measure("loss on what the base knew", ("known · loss",))
TUNED = ["run:one", "run:other"]
MERGE = {"kind": "merge", "base": "pocket", "models": [{"model": model} for model in TUNED]}
ROWS = {"one": 440, "other": 400}

CLAIM = Claim(
    shelf="merges",
    method="model_stock",
    paper="arXiv:2403.19522",
    says="Two models tuned for one task, and the angle between them, are enough to come near the middle of all such models: that point is "
    "better at the task and at what was known than their mean.",
    mark="P",
    runs={
        name: training("skill_a", 80, adapter={"method": "full"}, update={"method": "adamw", "lr": 5e-4})
        | {"data": {"path": "skill_a", "most_rows": rows}}
        for name, rows in ROWS.items()
    }
    | {"stock": {**MERGE, "merge": {"method": "model_stock"}}, "mean": {**MERGE, "merge": {"method": "linear"}}},
    asks=({"kind": "evaluate", "models": [*TUNED, "model:stock", "model:mean"], "max_tokens": 1},),
    models={"Model Stock": "model:stock", "mean": "model:mean", "one of them": "run:one"},
    expected=(Expected(LOSS, "Model Stock", "mean"), Expected(KNOWN, "Model Stock", "mean"), Expected(LOSS, "Model Stock", "one of them")),
    seconds=34,
    differs="The paper's models are image classifiers, tuned to the end with two seeds. Here the demo model learns to say every word twice "
    "in 80 steps; as both runs have one seed, they differ in the rows that they read, 440 and 400 of 450, and so in all their order.",
)
