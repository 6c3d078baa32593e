"""WiSE-FT (arXiv:2109.01903): a point between base and tuned model, beside the tuned model and one that was tuned more gently."""

from workbench.core.claim import Claim, Expected, Measure, training

KNOWN = Measure("loss on what the base knew", ("known · loss",))
RIGHT = Measure("accuracy on the new task", ("skill_a, held back · right",), unit="", more=True)
MERGE = {"kind": "merge", "base": "pocket", "models": [{"model": "run:tuned"}]}
RATES = {"tuned": 3e-3, "gently": 2e-3}

CLAIM = Claim(
    shelf="merges",
    method="wise_ft",
    paper="arXiv:2109.01903",
    says="Between the base and the tuned model lies one that is as good at the new task and much better at everything else; no choice of "
    "learning rate gives as much.",
    mark="P",
    runs={
        **{
            name: training("skill_a", 100, adapter={"method": "lora", "rank": 16}, update={"method": "adamw", "lr": rate})
            for name, rate in RATES.items()
        },
        "between": {**MERGE, "merge": {"method": "wise_ft", "alpha": 0.8}},
    },
    asks=({"kind": "evaluate", "models": ["run:tuned", "run:gently", "model:between"], "max_tokens": 20},),
    models={"tuned": "run:tuned", "tuned at two thirds of the rate": "run:gently", "WiSE-FT": "model:between"},
    expected=(
        Expected(KNOWN, "WiSE-FT", "tuned", 0.1),
        Expected(RIGHT, "WiSE-FT", "tuned", -0.05),
        Expected(KNOWN, "WiSE-FT", "tuned at two thirds of the rate"),
    ),
    seconds=55,
    differs="The paper tunes image classifiers which do the new task fairly well before they are tuned, and recommends α = 0.5 where "
    "nobody can look. Here the demo model learns to say every word twice, which its base cannot do at all, and α was picked with "
    "another seed.",
)
