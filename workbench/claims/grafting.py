"""Skill localisation (arXiv:2302.06600): the numbers that tuning moved most, put into the base alone, beside as many at random."""

from workbench.core.claim import Claim, Expected, Measure, training

RIGHT = Measure("accuracy on the new task", ("skill_a, held back · right",), unit="", more=True)
MERGE = {"kind": "merge", "base": "pocket", "models": [{"model": "run:tuned"}]}
MERGED = ["model:few", "model:more", "model:random"]

CLAIM = Claim(
    shelf="merges",
    method="grafting",
    paper="arXiv:2302.06600",
    says="Very few numbers carry what was learnt: put into the base alone, 0.01 % of them do more than 95 % of what the tuned model does.",
    mark="P",
    runs={
        "tuned": training("skill_a", 100, adapter={"method": "full"}, update={"method": "adamw", "lr": 1e-3}),
        "few": {**MERGE, "merge": {"method": "grafting", "share": 0.01}},
        "more": {**MERGE, "merge": {"method": "grafting", "share": 0.1}},
        "random": {**MERGE, "merge": {"method": "dare", "density": 0.1, "rescale": "none"}},
    },
    asks=({"kind": "evaluate", "models": ["run:tuned", *MERGED], "max_tokens": 20},),
    models={"tuned": "run:tuned", "a hundredth": "model:few", "a tenth": "model:more", "a tenth at random": "model:random"},
    expected=(Expected(RIGHT, "a hundredth", "tuned", -0.05), Expected(RIGHT, "a hundredth", "a tenth at random")),
    seconds=29,
    differs="The paper finds that 0.01 % of a larger model's numbers are enough, after it has learnt from data which to add and to take "
    "away. Here they are those that moved most in the demo model, a hundred times as many, and what it learnt, to say every word "
    "twice, its base could not do at all.",
)
