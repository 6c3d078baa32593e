"""LIFT (arXiv:2506.00772): the principal entries of each matrix tuned, beside full tuning and LoRA that have learnt as much."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS, KNOWN = Measure("validation loss", ("validation_loss",)), Measure("loss on what the base knew", ("base_loss",))
RUNS = {"lift": ("lift", 3e-3), "full": ("full", 5e-4), "lora": ("lora", 2e-3)}
UNTIL = {"schedule": "constant", "evaluate_every": 5, "stop": {"target": 0.1}, "probes": ["forgetting"]}

CLAIM = Claim(
    shelf="adapters",
    method="lift",
    paper="arXiv:2506.00772",
    says="Tuning only the principal weights learns as well as full tuning, and forgets less than full tuning and than LoRA.",
    mark="P",
    runs={
        name: training("skill_a", 150, adapter={"method": method}, update={"method": "adamw", "lr": rate}, **UNTIL)
        for name, (method, rate) in RUNS.items()
    },
    models={"LIFT": "run:lift", "full tuning": "run:full", "LoRA": "run:lora"},
    expected=(
        Expected(KNOWN, "LIFT", "full tuning", 0.02),
        Expected(KNOWN, "LIFT", "LoRA", 0.02),
        Expected(LOSS, "LIFT", "full tuning", -0.05),
    ),
    seconds=67,
    differs="The paper's models are far larger and learn to reason. Here the demo model learns to say every word twice until its "
    "validation loss is down to 0.1, so that forgetting is compared at equal learning, each at a learning rate of its own; LIFT and "
    "LoRA train as many numbers.",
)
