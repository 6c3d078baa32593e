"""Least but not Last (arXiv:2602.03493): a LoRA that starts from a matrix's middle directions, beside the strongest and the weakest."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS, KNOWN = Measure("validation loss", ("validation_loss",)), Measure("loss on what the base knew", ("base_loss",))
RUNS = {"middle": (0.5, 3e-3), "strongest": (0.0, 7e-4), "weakest": (1.0, 3e-3)}
UNTIL = {"schedule": "constant", "evaluate_every": 5, "stop": {"target": 0.1}, "probes": ["forgetting"]}

CLAIM = Claim(
    shelf="adapters",
    method="svd_slice",
    paper="arXiv:2602.03493",
    says="Started from directions in the middle, a LoRA forgets less of what the base knew than from the strongest (PiSSA) or the weakest "
    "(MiLoRA).",
    mark="P",
    runs={
        name: training("skill_a", 150, adapter={"method": "svd_slice", "position": at}, update={"method": "adamw", "lr": rate}, **UNTIL)
        for name, (at, rate) in RUNS.items()
    },
    models={"from the middle": "run:middle", "from the strongest": "run:strongest", "from the weakest": "run:weakest"},
    expected=(
        Expected(KNOWN, "from the middle", "from the strongest", 0.02),
        Expected(KNOWN, "from the middle", "from the weakest", 0.02),
        Expected(LOSS, "from the middle", "from the strongest", -0.05),
    ),
    seconds=73,
    differs="The paper's models are far larger. Here the demo model learns to say every word twice until its validation loss is down to "
    "0.1, so that forgetting is compared at equal learning; the strongest directions move farther at the same learning rate "
    "and have a quarter of it.",
)
