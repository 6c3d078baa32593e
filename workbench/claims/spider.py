"""SPIDER (arXiv:2411.10928): full tuning held back where a number matters more to the base, beside AdamW that has learnt as much."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS, KNOWN = Measure("validation loss", ("validation_loss",)), Measure("loss on what the base knew", ("base_loss",))
RUNS = {"spider": ("spider", 1e-3), "adamw": ("adamw", 1e-3), "adamw-slower": ("adamw", 5e-4)}
UNTIL = {"schedule": "constant", "evaluate_every": 5, "stop": {"target": 0.1}, "probes": ["forgetting"]}

CLAIM = Claim(
    shelf="updates",
    method="spider",
    paper="arXiv:2411.10928",
    says="Full tuning that moves only the numbers which matter more to the task than to the base learns as well, and forgets less.",
    mark="P",
    runs={
        name: training("skill_a", 150, adapter={"method": "full"}, update={"method": method, "lr": rate}, **UNTIL)
        for name, (method, rate) in RUNS.items()
    },
    models={"SPIDER": "run:spider", "AdamW": "run:adamw", "AdamW at half the rate": "run:adamw-slower"},
    expected=(
        Expected(KNOWN, "SPIDER", "AdamW", 0.02),
        Expected(KNOWN, "SPIDER", "AdamW at half the rate", 0.02),
        Expected(LOSS, "SPIDER", "AdamW", -0.05),
    ),
    seconds=67,
    differs="The paper's models read images and are far larger. Here the demo model learns to say every word twice until its validation "
    "loss is down to 0.1, so that forgetting is compared at equal learning; as fewer numbers move, AdamW is tried at half the "
    "learning rate as well.",
)
