"""Task arithmetic (arXiv:2212.04089): two task vectors added, held against each of the two models that they come from."""

from workbench.core.claim import Claim, Expected, Measure, training

BOTH = Measure("accuracy on both new tasks", ("skill_a, held back · right", "skill_b, held back · right"), unit="", more=True)
ADAPTER, UPDATE = {"method": "lora", "rank": 16}, {"method": "adamw", "lr": 2e-3}
TUNED = [{"model": "run:double"}, {"model": "run:ends"}]

CLAIM = Claim(
    shelf="merges",
    method="task_arithmetic",
    paper="arXiv:2212.04089",
    says="Two task vectors added to the base give one model that does both tasks, nearly as well as each of the two tuned models does "
    "its own.",
    mark="P",
    runs={
        "double": training("skill_a", 80, adapter=ADAPTER, update=UPDATE),
        "ends": training("skill_b", 80, adapter=ADAPTER, update=UPDATE),
        "added": {"kind": "merge", "base": "pocket", "models": TUNED, "merge": {"method": "task_arithmetic", "scale": 0.5}},
    },
    asks=({"kind": "evaluate", "models": ["run:double", "run:ends", "model:added"], "max_tokens": 20},),
    models={"tuned on the first": "run:double", "tuned on the second": "run:ends", "both added": "model:added"},
    expected=(Expected(BOTH, "both added", "tuned on the first", 0.1), Expected(BOTH, "both added", "tuned on the second", 0.1)),
    seconds=45,
    differs="The paper's models are far larger, were tuned whole, and half know the tasks before. Here LoRAs teach the demo model two "
    "things that its base cannot do at all, both with lists of words: to say every word twice, and to say the first and the last. As in "
    "the paper λ was picked on rows kept back, with another seed.",
)
