"""Model soups (arXiv:2203.05482): the mean of three runs that differ in their learning rate, held against each of the three."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("loss on rows kept back", ("skill_a, held back · loss",))
RATES = {"slow": 2e-3, "usual": 3e-3, "fast": 5e-3}
MODELS = [f"run:{name}" for name in RATES]

CLAIM = Claim(
    shelf="merges",
    method="linear",
    paper="arXiv:2203.05482",
    says="The mean of several models that were tuned with different settings is better than the best of them.",
    mark="P",
    runs={
        **{
            name: training("skill_a", 80, adapter={"method": "lora", "rank": 16}, update={"method": "adamw", "lr": rate})
            for name, rate in RATES.items()
        },
        "soup": {"kind": "merge", "base": "pocket", "models": [{"model": model} for model in MODELS], "merge": {"method": "linear"}},
    },
    asks=({"kind": "evaluate", "models": [*MODELS, "model:soup"], "max_tokens": 1},),
    models={"soup": "model:soup", **{f"rate {rate:g}": f"run:{name}" for name, rate in RATES.items()}},
    expected=tuple(Expected(LOSS, "soup", f"rate {rate:g}") for rate in RATES.values()),
    seconds=63,
    differs="The paper averages dozens of larger models, which were tuned whole, and counts right answers. Here three LoRAs have taught "
    "the demo model to say every word twice, at three learning rates, and the loss counts, which tells them apart where nearly all "
    "answers are right.",
)
