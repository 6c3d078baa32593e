"""rsLoRA (arXiv:2312.03732): with LoRA's scale α/r a higher rank does not learn faster, with α/√r it does."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("validation loss", ("validation_loss",))
ADAMW = {"method": "adamw", "lr": 1e-3}

CLAIM = Claim(
    shelf="adapters",
    method="rslora",
    paper="arXiv:2312.03732",
    says="LoRA's factor α/r slows learning as the rank grows, so that higher ranks bring nothing; with α/√r they learn more.",
    mark="P",
    runs={
        f"{method}-{rank}": training("skill_a", 60, adapter={"method": method, "rank": rank, "alpha": 8.0}, update=ADAMW)
        for method in ("lora", "rslora")
        for rank in (4, 64)
    },
    models={
        "LoRA of rank 4": "run:lora-4",
        "LoRA of rank 64": "run:lora-64",
        "rsLoRA of rank 4": "run:rslora-4",
        "rsLoRA of rank 64": "run:rslora-64",
    },
    expected=(
        Expected(LOSS, "rsLoRA of rank 64", "rsLoRA of rank 4", 0.1),
        Expected(LOSS, "rsLoRA of rank 64", "LoRA of rank 64", 0.1),
        Expected(LOSS, "LoRA of rank 4", "LoRA of rank 64", -0.1),
    ),
    seconds=72,
    differs="The paper's models are far larger. Here the demo model learns to say every word twice, in 60 steps at one "
    "learning rate and one α for all four; a rate of its own would help LoRA at rank 64.",
)
