"""OLoRA (arXiv:2406.01775): a LoRA that starts from an orthonormal basis learns faster than one that starts from zero."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("validation loss", ("validation_loss",))
RUNS = {"olora": ("olora", 1e-3), "lora": ("lora", 1e-3), "lora-faster": ("lora", 3e-3)}

CLAIM = Claim(
    shelf="adapters",
    method="olora",
    paper="arXiv:2406.01775",
    says="Started from an orthonormal basis of each matrix, a LoRA learns faster and ends better than one that starts from zero.",
    mark="P",
    runs={
        name: training("skill_a", 60, adapter={"method": method, "rank": 16}, update={"method": "adamw", "lr": rate})
        for name, (method, rate) in RUNS.items()
    },
    models={"OLoRA": "run:olora", "LoRA": "run:lora", "LoRA at rate × 3": "run:lora-faster"},
    expected=(Expected(LOSS, "OLoRA", "LoRA", 0.1), Expected(LOSS, "OLoRA", "LoRA at rate × 3")),
    seconds=51,
    differs="The paper's models are far larger. Here the demo model learns to say every word twice, in 60 steps; as a start that is not "
    "zero moves farther at the same learning rate, LoRA is tried at three times the rate as well.",
)
