"""LoRA vs Full Fine-tuning (arXiv:2410.21228): intruder dimensions of a LoRA and of full tuning that have learnt as much."""

from workbench.core.claim import Claim, Expected, Measure, training

INTRUDERS = Measure("intruder dimensions", ("intruders",), unit="")
LOSS, KNOWN = Measure("validation loss", ("validation_loss",)), Measure("loss on what the base knew", ("base_loss",))
RUNS = {"lora": ({"method": "lora", "rank": 4}, 3e-3), "full": ({"method": "full"}, 5e-4)}
UNTIL = {"schedule": "constant", "evaluate_every": 5, "stop": {"target": 0.05}, "probes": ["forgetting"]}

CLAIM = Claim(
    shelf="inspections",
    method="intruder_dimensions",
    paper="arXiv:2410.21228",
    says="LoRA of low rank puts strong singular directions into the matrices that the base does not have, full tuning does not; and where "
    "both do the new task as well, LoRA has forgotten more.",
    mark="P",
    runs={
        name: training("skill_a", 150, adapter=adapter, update={"method": "adamw", "lr": rate}, **UNTIL)
        for name, (adapter, rate) in RUNS.items()
    },
    asks=({"kind": "inspect", "models": ["run:lora", "run:full"], "inspection": {"method": "intruder_dimensions"}},),
    models={"LoRA": "run:lora", "full tuning": "run:full"},
    expected=(
        Expected(INTRUDERS, "full tuning", "LoRA", 1.0),
        Expected(KNOWN, "full tuning", "LoRA"),
        Expected(LOSS, "LoRA", "full tuning", -0.05),
    ),
    seconds=56,
    differs="The paper's models are a thousand times larger, with matrices thousands wide. Here the demo model learns to say every word "
    "twice until its validation loss is down to 0.05, and its matrices have 96 to 512 rows; rank 4 is 2 % of its width. How many intruders "
    "come hangs on LoRA's learning rate, here 0.003, as `benchmarks/intruders.py` had shown before, at other steps.",
)
