"""EVA (arXiv:2410.07170): a LoRA that starts by reading where its inputs vary most, beside one that starts by reading at random."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("validation loss", ("validation_loss",))
RUNS = {"eva": ("eva", 2e-3), "lora": ("lora", 2e-3), "lora-faster": ("lora", 4e-3)}

CLAIM = Claim(
    shelf="adapters",
    method="eva",
    paper="arXiv:2410.07170",
    says="A LoRA that starts with the directions in which its inputs vary most, and shares its rank out by them, learns faster and ends "
    "better than one that starts at random.",
    mark="P",
    runs={
        name: training("skill_a", 60, adapter={"method": method, "rank": 16}, update={"method": "adamw", "lr": rate})
        for name, (method, rate) in RUNS.items()
    },
    models={"EVA": "run:eva", "LoRA": "run:lora", "LoRA at rate × 2": "run:lora-faster"},
    expected=(Expected(LOSS, "EVA", "LoRA", 0.05), Expected(LOSS, "EVA", "LoRA at rate × 2")),
    seconds=47,
    differs="The paper's models are far larger. Here the demo model learns to say every word twice, in 60 steps; as EVA's start is longer "
    "than a random one and moves farther at the same learning rate, LoRA is tried at twice the rate as well.",
)
