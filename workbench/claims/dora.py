"""DoRA (arXiv:2402.09353): length and direction of each row learnt apart, beside plain LoRA of the same low rank."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("validation loss", ("validation_loss",))
RANKS, ADAMW = (2, 8), {"method": "adamw", "lr": 3e-3}

CLAIM = Claim(
    shelf="adapters",
    method="dora",
    paper="arXiv:2402.09353",
    says="Learning length and direction of each row apart is consistently better than LoRA, most of all at low ranks.",
    mark="P",
    runs={
        f"{method}-{rank}": training(
            "skill_a", 60, adapter={"method": method, "rank": rank, "alpha": 2.0 * rank, "dropout": 0.0}, update=ADAMW
        )
        for method in ("dora", "lora")
        for rank in RANKS
    },
    models={f"{title} of rank {rank}": f"run:{title.lower()}-{rank}" for title in ("DoRA", "LoRA") for rank in RANKS},
    expected=tuple(Expected(LOSS, f"DoRA of rank {rank}", f"LoRA of rank {rank}") for rank in RANKS),
    seconds=59,
    differs="The paper's models are far larger. Here the demo model learns to say every word twice, in 60 steps, all at one learning rate "
    "and without dropout.",
)
