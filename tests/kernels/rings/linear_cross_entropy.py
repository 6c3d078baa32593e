"""linear_cross_entropy by Triton against float64: a frozen head takes `rows`, one that learns takes `statistics` and `slopes`."""

from collections.abc import Callable

import pytest
import torch
from ring import DEVICE, DTYPES, INTERPRETED, draw, far, near
from torch import Tensor
from workbench_kernels import linear_cross_entropy as module
from workbench_kernels import linear_cross_entropy_fused as fused
from workbench_kernels import road
from workbench_kernels.linear_cross_entropy import TokenOdds, linear_cross_entropy, reference

KINDS = [{}, {"softcap": 5.0, "scale": 0.5, "entropy": True}]
# Neither V nor D a multiple of a tile; one row, and an odd number of them.
SHAPES = [(1, 24, 333), (37, 70, 200)]
SHAPES += [] if INTERPRETED else [(127, 896, 151936), (4097, 64, 32000), (1023, 256, 128256), (300, 4096, 1024)]


def case(n: int, d: int, v: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, weight, labels of which each fifth but the last is left out, bias."""
    labels = torch.randint(v, (n,), generator=torch.Generator().manual_seed(n))
    labels[: n - 1 : 5] = -100
    size = d**-0.25  # so that logits are a few units, whatever D
    return draw(n, d, dtype=dtype, scale=size), draw(v, d, dtype=dtype, scale=size, seed=1), labels.to(DEVICE), draw(v, dtype=dtype, seed=2)


def outcome(op: Callable[..., TokenOdds], tensors: list[Tensor | None], labels: Tensor, learns: bool, **kind: float) -> list[Tensor]:
    """All that it hands out, and the gradients under upstream numbers that differ from token to token."""
    own = [None if one is None else one.detach().clone().requires_grad_(place == 0 or learns) for place, one in enumerate(tensors)]
    odds = [one for one in op(own[0], own[1], labels, own[2], **kind) if one is not None]
    lost = sum((draw(len(labels), seed=seed).to(one.dtype) * one).sum() for seed, one in enumerate(odds))
    return [one.detach() for one in odds] + list(torch.autograd.grad(lost, [one for one in own if one is not None and one.requires_grad]))


def doubles(tensors: list[Tensor | None]) -> list[Tensor | None]:
    return [None if one is None else one.double() for one in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape: tuple[int, ...], kind: dict, learns: bool, dtype: torch.dtype) -> None:
    h, w, y, b = case(*shape, dtype=dtype)
    given = [h, w, b if kind else None]
    found, expected = (
        outcome(op, tensors, y, learns, **kind) for op, tensors in ((linear_cross_entropy, given), (reference, doubles(given)))
    )
    for one, truth in zip(found, expected, strict=True):
        near(one, truth, rounds=2.5, exact=1e-5)


@pytest.mark.parametrize("shape", [(37, 70, 333), (5, 8, 600)], ids=str)  # parts of one tile each, and of several
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_statistics_alone(kind: dict, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """Without logits, the vocabulary in parts; from the same numbers they are those of a training step."""
    h, w, y, b = case(*shape, dtype)
    with torch.no_grad():
        found, truth = linear_cross_entropy(h, w, y, b, **kind), reference(h.double(), w.double(), y, b.double(), **kind)
    trained = linear_cross_entropy(h.requires_grad_(), w, y, b, **kind)
    for one, other, exact in zip(found, trained, truth, strict=True):
        if exact is not None:
            assert far(one, exact) <= 2e-6 and far(other, exact) <= 2e-6


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("p", [0.9, 0.999, 1 - 1e-7])
def test_a_confident_token_keeps_its_gradient(p: float, learns: bool) -> None:
    """With the unit matrix as head dh is dz. In bfloat16 p − 1 would be off by a fifth at 0.99 (Liger-Kernel#1329)."""
    h = torch.zeros(1, 32, dtype=torch.bfloat16, device=DEVICE)
    h[0, 3] = torch.tensor(p / (1 - p) * 31).log()
    w = torch.eye(32, dtype=torch.bfloat16, device=DEVICE).requires_grad_(learns)
    dz = torch.autograd.grad(linear_cross_entropy(h.requires_grad_(), w, torch.tensor([3], device=DEVICE)).logp, h)[0]
    assert abs(dz[0, 3].double() / (1 - h.detach().double().softmax(1)[0, 3]) - 1) <= 0.01


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("offset", [8192.0, -8192.0])
def test_a_large_common_offset_costs_nothing(offset: float, learns: bool) -> None:
    """Logits that are multiples of 1/8 lose nothing to the offset; z_y − lse would lose 5e-4 (pytorch#195829)."""
    h, w, y, b = case(9, 8, 70)
    given = [h.mul(2).round() / 2, w.mul(4).round() / 4, torch.full_like(b, offset)]
    found, truth = outcome(linear_cross_entropy, given, y, learns), outcome(reference, [one.double() for one in given], y, learns)
    assert (found[0] - truth[0]).abs().max() <= 5e-6
    assert all(far(one, other) <= 1e-3 for one, other in zip(found, truth, strict=True))


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
def test_ties(learns: bool) -> None:
    """Equal logits: p = 1/V, H = ln V, and the gradient is the label's row less the mean row."""
    w, h = torch.eye(70, device=DEVICE).requires_grad_(learns), torch.zeros(2, 70, device=DEVICE, requires_grad=True)
    odds = linear_cross_entropy(h, w, torch.tensor([0, 69], device=DEVICE), entropy=True)
    slope = torch.autograd.grad(odds.logp.sum(), h)[0]
    flat = torch.tensor(70.0, device=DEVICE).log().expand(2)
    for one, other in zip((odds.logp, odds.lse, odds.entropy, slope), (-flat, flat, flat, w.detach()[[0, 69]] - 1 / 70), strict=True):
        near(one, other)


@pytest.mark.parametrize("labels", [[-100, -100], [], [-100, 2, 1]], ids=str)
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_that_are_left_out_give_nothing_and_take_nothing(count: int, labels: list[int], learns: bool) -> None:
    y, w = torch.tensor(labels, dtype=torch.long, device=DEVICE), draw(5, 4).requires_grad_(learns)
    out = y < 0
    h = draw(len(labels), 4).masked_fill(out[:, None], torch.nan).requires_grad_()
    with torch.no_grad():
        assert (linear_cross_entropy(h, w, y).logp[out] == 0).all()
    odds = linear_cross_entropy(h, w, y, entropy=True)
    upstream = torch.ones(len(labels), device=DEVICE).masked_fill(out, torch.inf)
    torch.autograd.backward(odds[:count], (upstream,) * count)
    assert all(one.isfinite().all() and (one[out] == 0).all() for one in (*odds, h.grad))
    assert not learns or w.grad.isfinite().all()


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
def test_nothing_beyond_the_weights_rows_is_read_and_nothing_is_written_into(learns: bool) -> None:
    """Rows of NaN after the last, columns of NaN after each; a graph that serves twice."""
    h, w, y, _ = case(9, 24, 70)
    around = torch.full((80, 40), torch.nan, device=DEVICE)
    around[:70, :24] = w
    before = [one.clone() for one in (h, around, y)]
    own, head = h.T.contiguous().T.requires_grad_(), around.requires_grad_(learns)
    odds = linear_cross_entropy(own, head[:70, :24], y, entropy=True)
    wanted = [own, head][: 1 + learns]
    first, second = (torch.autograd.grad(sum(odds).sum(), wanted, retain_graph=True) for _ in range(2))
    truth = outcome(lambda *given: reference(*given, entropy=True), doubles([h, w, None]), y, learns)
    amid = torch.full((9, 25), torch.nan, device=DEVICE)
    amid[:, :24] = h
    seen = module._odds(*fused.statistics(amid[:, :24], w, y.clamp_min(0), None, None, 1.0, True))
    assert all(one.isfinite().all() for one in seen)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True)) and all(one.isfinite().all() for one in first)
    for one, other in zip(odds, truth, strict=False):
        near(one.detach(), other, exact=5e-6)
    assert all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in zip((h, around.detach(), y), before, strict=True))


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
def test_where_no_row_is_left_out_it_is_the_same(learns: bool) -> None:
    """Also of a weight and hidden states that lie across, and of labels and a bias that lie apart with what are none between."""
    h, w, y, b = case(9, 24, 70)
    labels = torch.full((9, 2), 2**40, device=DEVICE)
    labels[:, 0] = y.clamp_min(0)

    def across(hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor, entropy: bool) -> TokenOdds:
        lying, apart = (one.T.contiguous().T for one in (hidden, weight)), torch.stack((bias, bias + torch.nan), 1)[:, 0]
        return linear_cross_entropy(*lying, labels, apart, entropy=entropy, every=True)

    found, expected = (outcome(op, [h, w, b], labels[:, 0], learns, entropy=True) for op in (across, linear_cross_entropy))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("place", [0, 299])
def test_a_token_that_is_far_ahead_of_all_tiles_after_it_or_before(place: int, learns: bool) -> None:
    """By 200, whose exponential is infinite."""
    h, w, y, b = case(5, 8, 300)
    b = torch.zeros_like(b)
    b[place] = 200.0
    found, truth = (outcome(op, given, y, learns) for op, given in ((linear_cross_entropy, [h, w, b]), (reference, doubles([h, w, b]))))
    for one, other in zip(found, truth, strict=True):
        near(one, other, exact=1e-5)


def test_products_are_read_where_they_lie_and_their_slopes_written_beside_them_or_over_them() -> None:
    """One sweep of a frozen head, with a cap: rows that lie apart, with numbers around that are none, which stay."""
    h, w, y, _ = case(5, 8, 200)
    y = y.clamp_min(0)
    product, beside = (torch.full((5, size), torch.nan, device=DEVICE) for size in (260, 231))
    product[:, 3:203] = h @ w.T
    states = torch.empty(2, 4, 5, device=DEVICE)
    for out, state in ((beside[:, 9:209], states[0]), (product[:, 3:203], states[1])):
        fused.rows(product[:, 3:203], out, y, None, 3.0, 0.5, True, state)
    z = 3 * ((h.double() @ w.double().T) / 6).tanh()
    slopes = (z.softmax(1) - torch.eye(200, device=DEVICE)[y]) * (1 - (z / 3).square())
    near(beside[:, 9:209], slopes)
    assert torch.equal(product[:, 3:203], beside[:, 9:209]) and torch.equal(*states)
    assert beside.isnan().sum() == 5 * 31 and product.isnan().sum() == 5 * 60
    for one, other in zip(module._odds(*states[0]), reference(h.double(), w.double(), y, None, 3.0, 0.5, True), strict=True):
        near(one, other)


def test_programs_are_laid_out_in_groups_that_each_cover_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven blocks of rows in groups of two, so that the last group is smaller; what no program writes is NaN."""
    monkeypatch.setattr(fused, "_group", lambda n, hidden, tile: 2)
    block = fused.launch(torch.float32).tiles["BM"]
    h, w, y, _ = case(6 * block + 5, 16, 130)
    y = y.clamp_min(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        logp, lse, spread = module._odds(*fused.statistics(h, w, y, None, None, 1.0, True))
    finally:
        torch.use_deterministic_algorithms(False)
    truth = reference(h.double(), w.double(), y, entropy=True)
    for one, other in zip((logp, lse, spread), truth, strict=True):
        near(one, other)


def test_without_triton_a_gpu_still_has_logits_in_float32() -> None:
    h, w, y, b = case(9, 24, 70, torch.bfloat16)
    with road.only("reference"):
        logp, lse, spread, _ = module._forward(h, w, y, b, 5.0, 0.5, True, "u")
    truth = reference(h.double(), w.double(), y, b.double(), 5.0, 0.5, True)
    assert all(far(one, other) <= 5e-6 for one, other in zip((logp, lse, spread), truth, strict=True))


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
def test_torch_compile_keeps_it(learns: bool) -> None:
    """In one piece, with the same numbers; and its schemas and shapes are what they say."""
    h, w, y, b = case(9, 8, 70)
    kept = torch.compile(linear_cross_entropy, backend="aot_eager", fullgraph=True)
    found, expected = (outcome(op, [h, w, b], y, learns, entropy=True) for op in (kept, linear_cross_entropy))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(module._forward, (h, w, y, b, 5.0, 0.5, True, "" if learns else "u"), test_utils=tests)
    logp, lse, spread, _ = module._forward(h, w, y, b, 5.0, 0.5, True, "")
    given = (h, w, y, b, logp, lse, spread, lse, logp, spread, 5.0, 0.5, [True, learns, learns])
    torch.library.opcheck(module._backward, given, test_utils=tests)
