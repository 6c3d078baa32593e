"""DualLoRA (arXiv:2411.00623): a LoRA that cannot read what rows to protect say, beside plain LoRA that has learnt as much."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS, KNOWN = Measure("validation loss", ("validation_loss",)), Measure("loss on what the base knew", ("base_loss",))
RUNS = {"dual": ("dual_lora", 6e-3), "lora": ("lora", 3e-3), "lora-slower": ("lora", 1.5e-3)}
UNTIL = {"schedule": "constant", "evaluate_every": 5, "stop": {"target": 0.1}, "probes": ["forgetting"]}

CLAIM = Claim(
    shelf="adapters",
    method="dual_lora",
    paper="arXiv:2411.00623",
    says="A LoRA that is kept orthogonal to what earlier rows say learns the new task and forgets less of the earlier ones, without "
    "seeing them again.",
    mark="P",
    runs={
        name: training("skill_a", 150, adapter={"method": method}, update={"method": "adamw", "lr": rate}, **UNTIL)
        for name, (method, rate) in RUNS.items()
    },
    models={"DualLoRA": "run:dual", "LoRA": "run:lora", "LoRA at half the rate": "run:lora-slower"},
    expected=(
        Expected(KNOWN, "DualLoRA", "LoRA", 0.02),
        Expected(KNOWN, "DualLoRA", "LoRA at half the rate", 0.02),
        Expected(LOSS, "DualLoRA", "LoRA", -0.05),
    ),
    seconds=87,
    differs="The paper's models see images and learn many tasks in turn, with a second adapter that is not here. Here 64 of the 240 rows "
    "of what the demo model knows are protected, and some of these are among the 48 that are asked. It learns to say every word "
    "twice until its validation loss is down to 0.1, so that forgetting is compared at equal learning.",
)
