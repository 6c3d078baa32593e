"""DARE (arXiv:2311.03099): nine tenths of what one model learnt dropped at random, with and without rescaling the rest."""

from workbench.core.claim import Claim, Expected, Measure, training

RIGHT = Measure("accuracy on the new task", ("skill_a, held back · right",), unit="", more=True)
MERGE = {"kind": "merge", "base": "pocket", "models": [{"model": "run:tuned"}]}

CLAIM = Claim(
    shelf="merges",
    method="dare",
    paper="arXiv:2311.03099",
    says="Nine tenths of what tuning changed can be dropped at random without harm, if what is left is rescaled.",
    mark="P",
    runs={
        "tuned": training("skill_a", 100, adapter={"method": "lora", "rank": 16}, update={"method": "adamw", "lr": 2e-3}),
        "rescaled": {**MERGE, "merge": {"method": "dare", "density": 0.1}},
        "not-rescaled": {**MERGE, "merge": {"method": "dare", "density": 0.1, "rescale": "none"}},
    },
    asks=({"kind": "evaluate", "models": ["run:tuned", "model:rescaled", "model:not-rescaled"]},),
    models={"tuned": "run:tuned", "a tenth, rescaled": "model:rescaled", "a tenth as it is": "model:not-rescaled"},
    expected=(Expected(RIGHT, "a tenth, rescaled", "tuned", -0.1), Expected(RIGHT, "a tenth, rescaled", "a tenth as it is", 0.1)),
    seconds=40,
    differs="The paper's models are far larger and were tuned whole. Here a LoRA of rank 16 has taught the demo model to say every word "
    "twice.",
)
