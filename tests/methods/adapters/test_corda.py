"""CorDA (arXiv:2406.05223): the start is what the rows use of each matrix most, or least, in the metric of its inputs."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence, inputs
from workbench.materials.started import StartedAttachment
from workbench.materials.templates import Encoded
from workbench.methods.adapters.corda import CorDA
from workbench.methods.adapters.svd_slice import SVDSlice

UP = "model.layers.1.mlp.up_proj"
ROWS = [Encoded(list(range(start, start + 25)), [True] * 25, 0) for start in range(2, 200, 9)]
KEPT = {"mode": "knowledge-preserved", "knowledge": "facts"}
SMALL = {"rank": 4, "alpha": 6.0}


def told(adapter: CorDA | SVDSlice) -> StartedAttachment:
    model = make_model()
    rows = dict.fromkeys(adapter.looks_at(), ROWS)
    return adapter.attach(model, 0, drain(adapter.study(model, Evidence(rows, 0, torch.device("cpu")))))


def start(attachment: StartedAttachment) -> Tensor:
    """sB₀A₀ of one matrix, float64."""
    a, b = attachment.starts[UP].a.double(), attachment.starts[UP].b.double()
    return attachment.model.get_submodule(UP).scaling["default"] * b @ a


def read() -> Tensor:
    """(tokens, n) what the matrix reads of the rows."""
    found: list[Tensor] = []
    drain(inputs(make_model(), [UP], Evidence({"": ROWS}, 0, torch.device("cpu")).batches(), lambda name, x: found.append(x)))
    return torch.cat(found).double()


def metric() -> Tensor:
    """C as the docstring has it."""
    products = read().T @ read()
    return products / products.diagonal().mean() + 0.01 * torch.eye(32)


@pytest.mark.parametrize(("knobs", "chosen"), [({}, slice(0, 4)), (KEPT, slice(-4, None))])
def test_the_start_is_a_slice_of_the_matrix_in_the_metric_of_its_inputs(knobs: dict, chosen: slice) -> None:
    attachment, weight = told(CorDA(**SMALL, **knobs)), make_model().get_submodule(UP).weight.detach().double()
    u, sizes, vh = torch.linalg.svd(weight @ metric(), full_matrices=False)
    assert torch.allclose(start(attachment) @ metric(), (u[:, chosen] * sizes[chosen]) @ vh[chosen], atol=1e-4)
    a = attachment.starts[UP].a.double()
    assert torch.allclose(a @ metric() @ metric() @ a.T, torch.diag(sizes[chosen] / 1.5), atol=1e-4)


def test_what_is_trained_is_what_the_rows_use_most_or_least() -> None:
    """Against slices that know nothing of the rows: PiSSA's and MiLoRA's."""
    tried = CorDA(**SMALL), SVDSlice(position=0.0, **SMALL), SVDSlice(position=1.0, **SMALL), CorDA(**SMALL, **KEPT)
    used, most, least, spared = (float((read() @ start(told(adapter)).T).norm()) for adapter in tried)
    assert used > most > least > spared


def test_how_large_the_inputs_are_makes_no_difference() -> None:
    weight, second = torch.randn(12, 8), torch.randn(20, 8)
    second = second.T @ second
    one, other = (CorDA(**SMALL)._start(weight, scale * second) for scale in (1.0, 1e4))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_inputs_that_are_always_zero_or_too_few_give_a_start_all_the_same() -> None:
    weight, x = torch.randn(12, 8), torch.randn(2, 8)
    for second in (torch.zeros(8, 8), x.T @ x):
        for knobs in ({}, KEPT):
            assert all(found.isfinite().all() for found in CorDA(**SMALL, **knobs)._start(weight, second))


def test_it_says_which_rows_it_lacks() -> None:
    assert CorDA().looks_at() == [""] and CorDA(**KEPT).looks_at() == ["facts"]
    with pytest.raises(WorkbenchError, match="name their data set under 'knowledge set'"):
        CorDA(mode="knowledge-preserved").looks_at()
