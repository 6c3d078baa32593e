"""The mixture rule (NeurIPS 2024): a large class cut to five times the small one and both drawn equally often, beside either alone."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

SMALL = Measure("accuracy on the small class", ("skill_b · right",), unit="", more=True)
LARGE = Measure("accuracy on the large class", ("skill_a · right",), unit="", more=True)
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}


def _cut(most: float) -> list[dict[str, Any]]:
    return [{"method": "class_balance", "column": "task", "most": most}]


WAYS: dict[str, dict[str, Any]] = {"drawn": {"balance": "task"}, "cut": {"selectors": _cut(1.0)}}
WAYS["both"] = {"balance": "task", "selectors": _cut(5.0)}

CLAIM = Claim(
    shelf="selectors",
    method="class_balance",
    paper="Group robustness is in the details, NeurIPS 2024",
    says="Large classes cut to a few times the smallest, and all then drawn equally often, serve the worst class better than drawing or "
    "cutting alone.",
    mark="P",
    runs={name: training("", 60, **LORA) | {"data": {"path": "imbalanced", **way}} for name, way in WAYS.items()},
    asks=({"kind": "evaluate", "models": [f"run:{name}" for name in WAYS], "sets": [{"data": "skill_b"}, {"data": "skill_a"}]},),
    models={"cut and drawn equally": "run:both", "drawn equally": "run:drawn", "cut to the smallest": "run:cut"},
    expected=(Expected(SMALL, "cut and drawn equally", "drawn equally"), Expected(LARGE, "cut and drawn equally", "cut to the smallest")),
    seconds=57,
    differs="The paper tunes classifiers of images and texts. Here the classes are two tasks that the demo model learns, the first and the "
    "last word with 20 rows and every word twice with 1,000. Which class is the worst differs: drawn alone the small one is learnt by "
    "heart, cut to 20 rows the large one is lost, and each is held against that.",
)
