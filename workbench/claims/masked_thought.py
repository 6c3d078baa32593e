"""Masked Thought (arXiv:2403.02178): a new skill learnt with parts of the answer hidden, and with all of it in sight."""

from workbench.core.claim import Claim, Expected, Measure, training

RIGHT = Measure("accuracy on rows kept back", ("skill_a, held back · right",), unit="", more=True)
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
FEW = {"data": {"path": "skill_a", "most_rows": 128}}
HIDDEN = {"masked": 0.4, "plain": 0.0}

CLAIM = Claim(
    shelf="noises",
    method="masked_thought",
    paper="arXiv:2403.02178",
    says="With some of the answer's own tokens replaced while it is learnt, a model looks to the question and is right more often.",
    mark="P",
    runs={name: training("", 80, noises=[{"method": "masked_thought", "most": most}], **LORA) | FEW for name, most in HIDDEN.items()},
    asks=({"kind": "evaluate", "models": ["run:masked", "run:plain"]},),
    models={"Masked Thought": "run:masked", "nothing hidden": "run:plain"},
    expected=(Expected(RIGHT, "Masked Thought", "nothing hidden"),),
    seconds=47,
    differs="The paper tunes models of 7 B on chains of reasoning, for ten epochs where they learn GSM8K. Here the demo model learns to "
    "say every word twice from 128 rows, in five epochs; of its answers, eight words at most, up to four tokens in ten are replaced.",
)
