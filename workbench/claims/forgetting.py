"""RL's Razor (arXiv:2509.04259): a task learnt freely and held near the base by the KL on its rows, and what each way forgets."""

from workbench.core.claim import Claim, Expected, Measure, training

KL = Measure("KL from the base on the new task", ("KL from the base",))
LOSS = Measure("validation loss", ("validation_loss",))
KNOWN = Measure("loss on what the base knew", ("base_loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}, "probes": [{"method": "forgetting"}]}
ANCHORS = {"free": 0.0, "held": 0.1}

CLAIM = Claim(
    shelf="probes",
    method="forgetting",
    paper="arXiv:2509.04259",
    says="What a model forgets follows how far its answers to the new task moved from the base's: of two that learnt it alike, the one "
    "that stayed nearer forgets less.",
    mark="P",
    runs={
        name: training("skill_a", 80) | LORA | {"loss": {"method": "cross_entropy", "anchor": anchor}} for name, anchor in ANCHORS.items()
    },
    asks=({"kind": "inspect", "models": ["run:free", "run:held"], "inspection": {"method": "kl_from_base"}},),
    models={"held near the base": "run:held", "free": "run:free"},
    expected=(
        Expected(KL, "held near the base", "free"),
        Expected(LOSS, "held near the base", "free", -0.1),
        Expected(KNOWN, "held near the base", "free", 0.05),
    ),
    seconds=50,
    differs="The paper sets reinforcement learning against supervised tuning. Here both ways are supervised: the demo model learns to say "
    "every word twice, and one of the two is held to its base by 0.1 of the KL on the rows it learns from.",
)
