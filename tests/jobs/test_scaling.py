"""Loss scaling for float16: gradients come out as they would without it, and an overflow costs one step and half the factor."""

import math

import pytest
import torch
from torch import nn

from workbench.jobs.scaling import PATIENCE, START, Scaling


def after(scaling: Scaling, gradient: float) -> nn.Parameter:
    """A parameter whose gradient is that of a scaled loss."""
    parameter = nn.Parameter(torch.ones(2))
    scaling.up((gradient * parameter).sum()).backward()
    scaling.down([parameter])
    return parameter


def test_what_is_lifted_is_set_down_again() -> None:
    scaling = Scaling(on=True)
    assert after(scaling, 3e-9).grad.tolist() == pytest.approx([3e-9] * 2)
    assert not scaling.overflowed and scaling.factor == START


def test_an_overflow_halves_the_factor_and_spares_the_step() -> None:
    scaling = Scaling(on=True)
    after(scaling, math.inf)
    assert scaling.overflowed and scaling.spared and scaling.factor == START / 2
    after(scaling, 1.0)
    assert not scaling.overflowed and not scaling.spared


def test_below_one_the_gradients_themselves_are_to_blame() -> None:
    scaling = Scaling(on=True, factor=1.0)
    after(scaling, math.nan)
    assert scaling.overflowed and not scaling.spared


def test_after_a_while_without_overflow_it_doubles() -> None:
    scaling = Scaling(on=True, since=PATIENCE - 2)
    after(scaling, 1.0)
    assert scaling.factor == START
    after(scaling, 1.0)
    assert scaling.factor == 2 * START and scaling.since == 0


def test_switched_off_it_touches_nothing() -> None:
    scaling = Scaling(on=False)
    assert after(scaling, 0.5).grad.tolist() == [0.5, 0.5] and scaling.factor == START
    after(scaling, math.inf)
    assert not scaling.overflowed


def test_it_is_taken_up_where_it_was() -> None:
    scaling, resumed = Scaling(on=True, factor=512.0, since=7), Scaling(on=True)
    resumed.load_state(scaling.state())
    assert (resumed.factor, resumed.since) == (512.0, 7)
    resumed.load_state({})  # a checkpoint from before there was scaling
    assert resumed.factor == 512.0
