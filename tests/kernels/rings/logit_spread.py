"""logit_spread by Triton against float64, from the same numbers; the vocabulary is always in two parts of several tiles or less."""

from dataclasses import fields

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, draw, far
from torch import Tensor
from workbench_kernels import logit_spread as module
from workbench_kernels import road
from workbench_kernels.logit_spread import Spread, logit_spread, reference

NAMES = tuple(field.name for field in fields(Spread))
TOKENS = ("rises", "falls")
PLAIN = {"moves": False, "biased": False, "softcap": None}
ALL = {"moves": True, "biased": True, "softcap": 3.0}
KINDS = [PLAIN, ALL, PLAIN | {"softcap": 3.0}, PLAIN | {"biased": True}]
# Neither N, V nor D a multiple of a tile; one row, and a vocabulary that is less than one tile.
SHAPES = [(1, 24, 333), (37, 70, 200), (3, 5, 7)]
SHAPES += [] if INTERPRETED else [(512, 896, 151936), (1023, 256, 128256), (65, 4096, 1000)]

Heads = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]


def case(
    n: int, d: int, v: int, dtype: torch.dtype = torch.float32, moves: bool = False, biased: bool = False, softcap: float | None = None
) -> tuple[Tensor | float | None, ...]:
    """h, ḣ, W, Ẇ, b, ḃ and the cap. h and ḣ are float32, as the probe hands them, of numbers that the kind of W has too."""
    size = d**-0.25  # so that logits are a few units, whatever D
    h, h_dot = (draw(n, d, dtype=dtype, scale=size, seed=seed).float() for seed in (0, 1))
    w, w_dot = (draw(v, d, dtype=dtype, scale=size, seed=seed) for seed in (2, 3))
    b, b_dot = (draw(v, dtype=dtype, seed=seed) for seed in (4, 5))
    return h, h_dot, w, w_dot if moves else None, b if biased else None, b_dot if moves and biased else None, softcap


def doubles(given: tuple[Tensor | float | None, ...]) -> list[Tensor | float | None]:
    return [one.double() if isinstance(one, Tensor) else one for one in given]


def whole(found: Spread) -> tuple[Tensor, ...]:
    return found.highest, found.lowest, found.rises, found.falls, found.at_top, found.margin, found.variance


def agree(found: Spread, truth: Spread, most: float = 5e-6) -> None:
    """What lies between the extremes is as exact as they are far apart."""
    for name in NAMES:
        one, other = getattr(found, name), getattr(truth, name)
        if name in TOKENS:
            assert one.dtype == torch.long and torch.equal(one, other), name
        else:
            size = truth.width if name == "at_top" else other
            assert one.dtype == torch.float32 and far(one - other + size, size) <= most, f"{name}: {one} is not {other}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_spread(shape: tuple[int, ...], kind: dict, dtype: torch.dtype) -> None:
    """In bfloat16 as exact as in float32: the products of such numbers are, and their sum is float32."""
    given = case(*shape, dtype=dtype, **kind)
    agree(logit_spread(*given), reference(*doubles(given)))


def test_states_of_float32_are_rounded_to_the_kind_of_the_head() -> None:
    h, h_dot, w, *_ = case(9, 24, 130, torch.bfloat16)
    h, h_dot = h * 1.003, h_dot * 1.003
    found, rounded = logit_spread(h, h_dot, w), logit_spread(h.bfloat16(), h_dot.bfloat16(), w)
    assert all(torch.equal(*pair) for pair in zip(whole(found), whole(rounded), strict=True))
    exact = reference(*doubles((h, h_dot, w)))
    assert far(found.width, exact.width) <= 2e-3


@pytest.mark.parametrize("place", [0, 70, 199])
@pytest.mark.parametrize("lead", [12.0, 30.0, 55.0])
def test_a_nearly_certain_token_keeps_its_digits(place: int, lead: float) -> None:
    """1 − p is e^−12 to e^−55 of it, far below the digits of float32; the likeliest token is in the first part, the second or the last."""
    h, h_dot, w, *_ = case(5, 16, 200)
    b = torch.zeros(200, device=DEVICE)
    b[place] = lead + 20
    found, truth = logit_spread(h, h_dot, w, bias=b), reference(*doubles((h, h_dot, w, None, b)))
    assert (found.margin > lead).all()
    assert far(found.margin, truth.margin) <= 1e-6 and far(found.at_top, truth.at_top) <= 2e-6
    assert (truth.variance > 0).all() and far(found.variance, truth.variance) <= 1e-4  # z is known to 1e-5 of a logit of 75


def test_tokens_that_are_overtaken_one_by_one_join_the_sums() -> None:
    """Logits that grow along the vocabulary: in each tile a new token is the likeliest, and a falls as z grows. Then the other way."""
    ramp = torch.linspace(-3, 3, 333, device=DEVICE)
    w = torch.stack((ramp, torch.cos(40 * ramp) - 5 * ramp), 1)
    for turned in (w, w.flip(0)):
        given = torch.tensor([[1.0, 0.0], [4.0, 0.0]], device=DEVICE), torch.tensor([[0.0, 1.0], [0.0, 2.0]], device=DEVICE), turned
        agree(logit_spread(*given), reference(*doubles(given)))


def test_equal_logits_and_equal_derivatives() -> None:
    """The first of the likeliest is the top and the others stay in the sums: δ = 0, and the variance is that of all tokens."""
    h, h_dot = torch.zeros(2, 3, device=DEVICE), torch.ones(2, 3, device=DEVICE)
    w = torch.ones(200, 3, device=DEVICE)
    w[100:] = -1.0
    found = logit_spread(h, h_dot, w)
    expected = {"highest": 3.0, "lowest": -3.0, "rises": 0, "falls": 100, "at_top": 3.0, "margin": 0.0, "variance": 9.0}
    for name, value in expected.items():
        assert (getattr(found, name) - value).abs().max() <= 1e-5, name


def test_a_constant_that_all_logits_gain_changes_no_width() -> None:
    """Whole numbers, so that nothing is rounded."""
    h, h_dot, w, *_ = (one.mul(4).round() if isinstance(one, Tensor) else one for one in case(5, 16, 200))
    plain = logit_spread(h, h_dot, w, bias_dot=torch.zeros(200, device=DEVICE))
    gained = logit_spread(h, h_dot, w, bias_dot=torch.full((200,), 64.0, device=DEVICE))
    assert torch.equal(plain.width, gained.width) and torch.equal(plain.rises, gained.rises) and torch.equal(plain.falls, gained.falls)
    assert torch.equal(plain.highest + 64, gained.highest) and torch.equal(plain.at_top + 64, gained.at_top)
    assert far(gained.variance, plain.variance) <= 1e-6


@pytest.mark.parametrize("kind", [PLAIN, ALL], ids=str)
def test_nothing_beyond_a_row_is_read_and_nothing_is_written_into(kind: dict) -> None:
    """Columns of NaN after every row of W and Ẇ, rows of NaN after the last; h and ḣ with gaps."""
    h, h_dot, w, w_dot, *others = given = case(9, 24, 70, **kind)
    before = [one.clone() for one in given if isinstance(one, Tensor)]
    around = [torch.full((80, width), torch.nan, device=DEVICE) for width in (40, 48)]
    for one, inside in zip(around, (w, w_dot), strict=True):
        one[:70, :24] = 0 if inside is None else inside
    head, head_dot = (one[:70, :24] for one in around)
    found = logit_spread(h.T.contiguous().T, h_dot.T.contiguous().T, head, None if w_dot is None else head_dot, *others)
    again = logit_spread(*given)
    assert all(torch.equal(*pair) for pair in zip(whole(found), whole(again), strict=True))
    assert all(torch.equal(one, other) for one, other in zip([one for one in given if isinstance(one, Tensor)], before, strict=True))
    turned = logit_spread(h, h_dot, w.T.contiguous().T, w_dot, *others)
    assert all(torch.equal(*pair) for pair in zip(whole(turned), whole(again), strict=True))


def test_no_rows_give_nothing() -> None:
    found = logit_spread(*case(0, 16, 70))
    assert all(one.shape == (0,) for one in whole(found))


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("spoilt", [0, 1], ids=["states", "derivative"])
def test_what_is_no_number_is_no_number(spoilt: int) -> None:
    """A run that diverged must not look safe; the other rows are as they were, and every token is one of the vocabulary."""
    given = [*case(5, 16, 200)]
    sound = logit_spread(*given)
    given[spoilt] = given[spoilt].clone()
    given[spoilt][2, 3] = torch.nan
    found = logit_spread(*given)
    assert found.width[2].isnan() and found.variance[2].isnan() and 0 <= found.rises[2] < 200 and 0 <= found.falls[2] < 200
    others = [0, 1, 3, 4]
    assert all(torch.equal(one[others], other[others]) for one, other in zip(whole(found), whole(sound), strict=True))


def test_tokens_that_a_bias_forbids_have_no_weight() -> None:
    """−∞ for all of the first part of the vocabulary and the end of the second."""
    h, h_dot, w, *_ = case(5, 16, 200)
    b = torch.zeros(200, device=DEVICE)
    b[:130], b[190:] = -torch.inf, -torch.inf
    found, truth = logit_spread(h, h_dot, w, bias=b), reference(*doubles((h, h_dot, w[130:190])))
    for name in ("at_top", "margin", "variance"):
        assert far(getattr(found, name), getattr(truth, name)) <= 5e-6, name


def test_programs_are_laid_out_in_groups_that_each_cover_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows in groups of two: the last group is smaller."""
    given = case(150, 16, 130)
    monkeypatch.setattr(module, "CACHED", 2 * 2 * module.launch(torch.float32, 150, False).tiles["BM"] * 16 * 4)
    agree(logit_spread(*given), reference(*doubles(given)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_other_formats_take_the_reference(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_forward", lambda *given: pytest.fail("the kernel ran"))
    given = case(3, 8, 70, dtype)
    given = given if dtype == torch.float16 else tuple(doubles(given))
    assert far(logit_spread(*given).width, reference(*doubles(given)).width) <= 1e-6
    with road.only("reference"):
        logit_spread(*case(3, 8, 70))


def test_torch_compile_keeps_it() -> None:
    """In one piece, with the same numbers; and its schema and shapes are what they say."""
    given = case(4, 8, 70, **ALL)
    kept = torch.compile(lambda *tensors: whole(logit_spread(*tensors)), backend="aot_eager", fullgraph=True)
    assert all(torch.equal(*pair) for pair in zip(kept(*given), whole(logit_spread(*given)), strict=True))
    for each in (given, case(4, 8, 70)):
        torch.library.opcheck(module._forward, each, test_utils=("test_schema", "test_faketensor"))
