"""EAFT (arXiv:2601.02151): tokens weighed by how unsure the model is of them, held against plain cross-entropy on the new and the old."""

from workbench.core.claim import Claim, Expected, Measure, training

KNOWN = Measure("loss on what the base knew", ("known · loss",))
RIGHT = Measure("accuracy on the new task", ("skill_a, held back · right",), unit="", more=True)
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}

CLAIM = Claim(
    shelf="losses",
    method="eaft",
    paper="arXiv:2601.02151",
    says="Weighing each token by the model's entropy learns the new task as well as cross-entropy does, and forgets less of what it knew.",
    mark="R",
    runs={name: training("skill_a", 80, loss={"method": name}, **LORA) for name in ("eaft", "cross_entropy")},
    asks=({"kind": "evaluate", "models": ["run:eaft", "run:cross_entropy"]},),
    models={"EAFT": "run:eaft", "cross-entropy": "run:cross_entropy"},
    expected=(Expected(RIGHT, "EAFT", "cross-entropy", -0.1), Expected(KNOWN, "EAFT", "cross-entropy", 0.05)),
    seconds=46,
    differs="The paper's models are far larger and tuned whole, on mathematics, medicine and tool use. Here a LoRA teaches the demo model "
    "to say every word twice, at one learning rate for both; a lower one would make cross-entropy forget less too.",
)
