"""HFT (arXiv:2404.18466): half of each block's modules tuned, beside full tuning that has learnt as much."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS, KNOWN = Measure("validation loss", ("validation_loss",)), Measure("loss on what the base knew", ("base_loss",))
RUNS = {"hft": ("hft", 1e-3), "full": ("full", 1e-3), "full-slower": ("full", 5e-4)}
UNTIL = {"schedule": "constant", "evaluate_every": 5, "stop": {"target": 0.1}, "probes": ["forgetting"]}

CLAIM = Claim(
    shelf="adapters",
    method="hft",
    paper="arXiv:2404.18466",
    says="Tuning half of the modules learns as much as tuning all of them, and forgets less of what the base knew.",
    mark="P",
    runs={
        name: training("skill_a", 150, adapter={"method": method}, update={"method": "adamw", "lr": rate}, **UNTIL)
        for name, (method, rate) in RUNS.items()
    },
    models={"HFT": "run:hft", "full tuning": "run:full", "full tuning at half the rate": "run:full-slower"},
    expected=(
        Expected(KNOWN, "HFT", "full tuning", 0.02),
        Expected(KNOWN, "HFT", "full tuning at half the rate", 0.02),
        Expected(LOSS, "HFT", "full tuning", -0.05),
    ),
    seconds=63,
    differs="The paper's models are far larger and learn for epochs. Here the demo model learns to say every word twice until its "
    "validation loss is down to 0.1, so that forgetting is compared at equal learning; as a part moves less far at the same "
    "learning rate, full tuning is tried at half of it as well.",
)
