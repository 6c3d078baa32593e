"""Self-distillation (arXiv:2309.17134): a new task learnt with the base as teacher where it ranks the label high, and without it."""

from workbench.core.claim import Claim, Expected, Measure, training

KNOWN = Measure("loss on what the base knew", ("known · loss",))
RIGHT = Measure("accuracy on the new task", ("skill_a, held back · right",), unit="", more=True)
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}

CLAIM = Claim(
    shelf="losses",
    method="self_distillation",
    paper="arXiv:2309.17134",
    says="A model that is also taught by what it said before, wherever it ranks the label high, learns as much and forgets less.",
    mark="D",
    runs={name: training("skill_a", 80, loss={"method": name}, **LORA) for name in ("self_distillation", "cross_entropy")},
    asks=({"kind": "evaluate", "models": ["run:self_distillation", "run:cross_entropy"]},),
    models={"self-distillation": "run:self_distillation", "cross-entropy": "run:cross_entropy"},
    expected=(
        Expected(RIGHT, "self-distillation", "cross-entropy", -0.1),
        Expected(KNOWN, "self-distillation", "cross-entropy", 0.05),
    ),
    seconds=41,
    differs="The paper distils the start and end of answers in a text, and reports that languages which it does not tune on gain more than "
    "under cross-entropy; that a model keeps what it knew is the same idea for a language model. Here the demo model learns to say every "
    "word twice, and what it knew are its own skills.",
)
