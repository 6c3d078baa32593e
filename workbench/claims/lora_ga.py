"""LoRA-GA (arXiv:2407.05000): a LoRA that starts along full tuning's gradient, beside plain LoRA with as many steps and twice as many."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("validation loss", ("validation_loss",))
RUNS = {"lora-ga": ("lora_ga", 40), "lora": ("lora", 40), "lora-longer": ("lora", 80)}

CLAIM = Claim(
    shelf="adapters",
    method="lora_ga",
    paper="arXiv:2407.05000",
    says="Started along the gradient of full tuning, a LoRA learns two to four times as fast as one that starts from zero.",
    mark="P",
    runs={
        name: training("skill_a", steps, adapter={"method": method, "rank": 16}, update={"method": "adamw", "lr": 3e-3})
        for name, (method, steps) in RUNS.items()
    },
    models={"LoRA-GA": "run:lora-ga", "LoRA": "run:lora", "LoRA with twice the steps": "run:lora-longer"},
    expected=(Expected(LOSS, "LoRA-GA", "LoRA", 0.1), Expected(LOSS, "LoRA-GA", "LoRA with twice the steps")),
    seconds=43,
    differs="The paper's models are far larger. Here the demo model learns to say every word twice, in 40 or 80 steps, all at one "
    "learning rate that suits both.",
)
