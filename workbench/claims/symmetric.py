"""Symmetric cross-entropy (arXiv:1908.06112): facts and sums of which one in ten is wrong, learnt with it and with cross-entropy."""

from workbench.core.claim import Claim, Expected, Measure, training

RIGHT = Measure("accuracy on what the base knew", ("known · right",), unit="", more=True)
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
OTHERS = "Once there was, Wo wohnt, How can I reach, reverse:, sort:, first:, last:, count:, capitalise:"
NOISY = {"data": {"path": "messy", "selectors": [{"method": "word_list", "text": "row", "words": OTHERS}]}}

CLAIM = Claim(
    shelf="losses",
    method="symmetric",
    paper="arXiv:1908.06112",
    says="Where some labels are wrong, cross-entropy learns them too; with its reverse beside it a model learns them less.",
    mark="P",
    runs={name: training("", 100, loss={"method": name}, **LORA) | NOISY for name in ("symmetric", "cross_entropy")},
    asks=({"kind": "evaluate", "models": ["run:symmetric", "run:cross_entropy"], "sets": [{"data": "known"}]},),
    models={"symmetric": "run:symmetric", "cross-entropy": "run:cross_entropy"},
    expected=(Expected(RIGHT, "symmetric", "cross-entropy", 0.02),),
    seconds=48,
    differs="The paper trains classifiers of images from nothing, with two to eight labels in ten wrong. Here one row in ten is wrong, "
    "and they are facts and sums that the demo model knows already: what counts is what wrong answers undo.",
)
