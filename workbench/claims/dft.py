"""DFT (arXiv:2508.05629): cross-entropy weighed by the probability of each token, held against plain cross-entropy on rows kept back."""

from workbench.core.claim import Claim, Expected, Measure, training

RIGHT = Measure("accuracy on rows kept back", ("skill_a, held back · right",), unit="", more=True)
ADAPTER, UPDATE = {"method": "lora", "rank": 16}, {"method": "adamw", "lr": 2e-3}

CLAIM = Claim(
    shelf="losses",
    method="dft",
    paper="arXiv:2508.05629",
    says="Weighing each token by its probability generalizes better than supervised fine-tuning with plain cross-entropy.",
    mark="P",
    runs={name: training("skill_a", 60, adapter=ADAPTER, update=UPDATE, loss={"method": name}) for name in ("dft", "cross_entropy")},
    asks=({"kind": "evaluate", "models": ["run:dft", "run:cross_entropy"]},),
    models={"DFT": "run:dft", "cross-entropy": "run:cross_entropy"},
    expected=(Expected(RIGHT, "DFT", "cross-entropy"),),
    seconds=41,
    differs="The paper tunes far larger models on mathematics, which they half know. Here the demo model learns to say every word twice, "
    "which its base cannot do at all, and DFT hardly listens to what a model thinks unlikely.",
)
