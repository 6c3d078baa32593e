"""InfoSFT (arXiv:2605.14967): tokens that are neither known nor hopeless weigh most, beside cross-entropy and DFT."""

from workbench.core.claim import Claim, Expected, Measure, training

RIGHT = Measure("accuracy on rows kept back", ("skill_a, held back · right",), unit="", more=True)
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
LOSSES = ("infosft", "cross_entropy", "dft")

CLAIM = Claim(
    shelf="losses",
    method="infosft",
    paper="arXiv:2605.14967",
    says="Learning most from tokens that are neither known nor hopeless is consistently better than cross-entropy and than DFT.",
    mark="P",
    runs={name: training("skill_a", 60, loss={"method": name}, **LORA) for name in LOSSES},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in LOSSES]},),
    models={"InfoSFT": "run:infosft", "cross-entropy": "run:cross_entropy", "DFT": "run:dft"},
    expected=(Expected(RIGHT, "InfoSFT", "cross-entropy"), Expected(RIGHT, "InfoSFT", "DFT")),
    seconds=46,
    differs="The paper tunes far larger models on mathematics and code, which they half know. Here the demo model learns to say every word "
    "twice, which its base cannot do at all; for what is so new the authors advise an epoch of cross-entropy first, which is not done.",
)
