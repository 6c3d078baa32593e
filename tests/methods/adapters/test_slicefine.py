"""SliceFine: one slice at a time, which moves along and in the end has been everywhere."""

import pytest
import torch
from pico import make_model

from workbench.materials.region import RegionAttachment
from workbench.methods.adapters.slicefine import SliceFine

UP = "model.layers.0.mlp.up_proj.weight"


def where(attachment: RegionAttachment) -> list[int]:
    return attachment.state()[f"{UP}/index"].tolist()


def test_the_slice_moves_on_by_its_width() -> None:
    attachment = SliceFine(width=5, every=2).attach(make_model(), seed=0)
    seen = [where(attachment)]
    for step in range(1, 6):
        assert bool(attachment.redraw(step)) == (step in (3, 5))
        seen.append(where(attachment))
    assert seen == [list(range(start, start + 5)) for start in (0, 0, 0, 5, 5, 10)]


@pytest.mark.parametrize("side", ["columns", "rows"])
def test_over_its_sweeps_it_has_been_everywhere(side: str) -> None:
    model = make_model()
    attachment = SliceFine(width=7, every=1, side=side).attach(model, seed=0)
    seen = set(where(attachment))
    for step in range(2, 100):
        attachment.redraw(step)
        seen |= set(where(attachment))
    assert seen == set(range(model.get_parameter(UP).shape[side == "columns"]))


def test_a_slice_that_stays_never_moves_and_one_as_wide_as_the_matrix_is_all_of_it() -> None:
    assert not any(SliceFine(every=0).attach(make_model(), seed=0).redraw(step) for step in range(1, 50))
    attachment = SliceFine(width=4096).attach(make_model(), seed=0)
    (_, values), *_ = attachment.trained()
    assert values.shape == attachment.model.get_parameter(attachment.trained()[0][0]).shape and isinstance(values, torch.nn.Parameter)


@pytest.mark.parametrize("side", ["columns", "rows"])
def test_the_cost_is_that_of_the_slices(side: str) -> None:
    adapter = SliceFine(width=20, side=side)  # wider than some of the matrices are high
    attachment = adapter.attach(make_model(), seed=0)
    assert adapter.cost(make_model()).trained == sum(values.numel() for _, values in attachment.trained())
