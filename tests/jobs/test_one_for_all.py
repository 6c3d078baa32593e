"""Numbers that a method wants once for all tensors: they are refused where they vary, and nothing is left out in silence."""

import pytest

from workbench.core.spec import parse_spec
from workbench.jobs.ingredients import refusals

GRADED, EVEN, BY_NAME = [0.1, 0.3], [0.2, 0.2], [{"filter": "mlp", "value": 0.1}, {"value": 0.2}]


def said(models: int, merge: dict, weight: object = 1.0) -> list[str]:
    given = [{"model": f"run:000{number}", "weight": weight} for number in range(1, models + 1)]
    return refusals(parse_spec({"kind": "merge", "models": given, "merge": merge}))


@pytest.mark.parametrize(("models", "merge", "name"), [
    (2, {"method": "ties", "trim": "model", "density": GRADED}, "density"),
    (2, {"method": "ties", "trim": "model", "density": BY_NAME}, "density"),
    (2, {"method": "composable", "share": GRADED}, "share"), (1, {"method": "grafting", "share": GRADED}, "share"),
    (2, {"method": "ties", "trim": [{"filter": "mlp", "value": "model"}, {"value": "tensor"}]}, "trim"),
])  # fmt: skip
def test_what_is_settled_over_all_tensors_cannot_differ_between_them(models: int, merge: dict, name: str) -> None:
    (sentence,) = said(models, merge)
    assert f"settles {name} for all tensors together" in sentence and "Give one number" in sentence


@pytest.mark.parametrize(("models", "merge"), [
    (2, {"method": "ties", "density": GRADED}), (2, {"method": "ties", "trim": "model", "scale": [1, 2]}),
    (2, {"method": "ties", "trim": "model", "density": EVEN}), (1, {"method": "grafting", "of": "tensor", "share": BY_NAME}),
])  # fmt: skip
def test_what_each_tensor_settles_alone_may_differ(models: int, merge: dict) -> None:
    assert said(models, merge) == []


def test_a_merge_of_whole_models_has_one_number_each() -> None:
    for merge, weight in (({"method": "partial_fusion", "apart": GRADED}, 1.0), ({"method": "partial_fusion"}, GRADED)):
        assert any("each number is one for all tensors" in sentence for sentence in said(2, merge, weight))
    assert said(2, {"method": "partial_fusion"}) == []
