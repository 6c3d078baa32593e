"""linear_cross_entropy: the reference against its formula and transformers' models; the engine of the CPU against float64."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from transformers import CohereConfig, Gemma2Config, LlamaConfig, PhiConfig, PreTrainedConfig
from transformers.models.cohere.modeling_cohere import CohereForCausalLM
from transformers.models.gemma2.modeling_gemma2 import Gemma2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaForCausalLM
from transformers.models.phi.modeling_phi import PhiForCausalLM
from workbench_kernels import linear_cross_entropy as module
from workbench_kernels import road
from workbench_kernels.linear_cross_entropy import TokenOdds, linear_cross_entropy, reference

KINDS = [{}, {"softcap": 5.0}, {"scale": 0.25}, {"softcap": 30.0, "scale": 1.5}]
TINY = {"vocab_size": 61, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
BF16 = torch.bfloat16


def draw(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * scale).to(dtype)


def case(n: int, d: int, v: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, weight, labels of which the first and each fifth is left out, bias."""
    labels = torch.randint(v, (n,), generator=torch.Generator().manual_seed(n))
    labels[::5] = -100
    return draw(n, d, dtype=dtype), draw(v, d, dtype=dtype, seed=1), labels, draw(v, dtype=dtype, seed=2)


def far(found: Tensor, expected: Tensor) -> float:
    assert found.isfinite().all(), "a number is not finite"
    return ((found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-300)).item()


def outcome(op: Callable[..., TokenOdds], tensors: list[Tensor | None], labels: Tensor, learns: bool, **kind: float) -> list[Tensor]:
    """All that it hands out, and the gradients under upstream numbers that differ from token to token."""
    own = [None if one is None else one.detach().clone().requires_grad_(place == 0 or learns) for place, one in enumerate(tensors)]
    odds = [one for one in op(own[0], own[1], labels, own[2], **kind) if one is not None]
    lost = sum((draw(len(labels), dtype=one.dtype, seed=seed) * one).sum() for seed, one in enumerate(odds))
    return [one.detach() for one in odds] + list(torch.autograd.grad(lost, [one for one in own if one is not None and one.requires_grad]))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_reference_is_its_formula_and_so_is_its_gradient(kind: dict) -> None:
    h, w, y, b = (one.double() if one.is_floating_point() else one for one in case(7, 3, 11))
    z = kind.get("scale", 1.0) * h @ w.T + b
    z = kind["softcap"] * torch.tanh(z / kind["softcap"]) if "softcap" in kind else z
    p, lived = z.exp() / z.exp().sum(1, keepdim=True), y >= 0
    expected = (p[range(7), y.clamp_min(0)].log() * lived, z.exp().sum(1).log() * lived, -(p * p.log()).sum(1) * lived)
    for one, other in zip(reference(h, w, y, b, entropy=True, **kind), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    given = [one.requires_grad_() for one in (h, w, b)]
    assert torch.autograd.gradcheck(lambda h, w, b: reference(h, w, y, b, entropy=True, **kind), given)


@pytest.mark.parametrize(
    ("model", "config", "kind"),
    [
        (LlamaForCausalLM, LlamaConfig, {}), (Gemma2ForCausalLM, Gemma2Config, {"softcap": 0.5}),
        (CohereForCausalLM, CohereConfig, {"scale": 0.3}), (PhiForCausalLM, PhiConfig, {}),
    ],
)  # fmt: skip
def test_it_is_what_transformers_computes(model: type[torch.nn.Module], config: type[PreTrainedConfig], kind: dict) -> None:
    more = {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "final_logit_softcapping": kind.get("softcap"),
        "logit_scale": kind.get("scale", 1.0),
        "head_dim": 8,
    }
    torch.manual_seed(0)
    theirs = model(config(**TINY, **more, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=1.0)).eval()
    if theirs.lm_head.bias is not None:
        torch.nn.init.normal_(theirs.lm_head.bias)
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        hidden, table = theirs.model(ids).last_hidden_state[0, :-1], theirs(ids).logits[0, :-1].log_softmax(-1)
        for op in (reference, linear_cross_entropy):
            odds = op(hidden, theirs.lm_head.weight, ids[0, 1:], theirs.lm_head.bias, entropy=True, **kind)
            torch.testing.assert_close(odds.logp, table.gather(1, ids[0, 1:, None])[:, 0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(odds.entropy, -(table.exp() * table).sum(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learns, kept", [(False, 0), (True, 0), (True, 2**24)], ids=["frozen", "learns", "learns, kept"])
@pytest.mark.parametrize("entropy", [False, True], ids=["", "entropy"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_values_and_gradients(kind: dict, bias: bool, entropy: bool, learns: bool, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64, in chunks of 4 or 5 rows and blocks of 2."""
    monkeypatch.setattr(module, "ROWS", 5)
    monkeypatch.setattr(module, "BLOCK", 700)
    monkeypatch.setattr(module, "FEW", kept)
    h, w, y, b = case(37, 24, 333)
    given = [h, w, b if bias else None]
    found = outcome(linear_cross_entropy, given, y, learns, entropy=entropy, **kind)
    expected = outcome(reference, [None if one is None else one.double() for one in given], y, learns, entropy=entropy, **kind)
    for one, other in zip(found, expected, strict=True):
        assert far(one, other) <= 5e-6


@pytest.mark.parametrize("more", [False, True], ids=["", "bias and entropy"])
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_in_bfloat16_it_is_no_farther_from_the_truth_than_transformers(kind: dict, learns: bool, more: bool) -> None:
    h, w, y, b = case(300, 64, 333, BF16)
    given = [h, w, b if more else None]
    found, plain = (outcome(op, given, y, learns, entropy=more, **kind) for op in (linear_cross_entropy, reference))
    expected = outcome(reference, [None if one is None else one.double() for one in given], y, learns, entropy=more, **kind)
    for one, theirs, truth in zip(found, plain, expected, strict=True):
        assert far(one, truth) <= 1.15 * far(theirs, truth) + 1e-3


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("p", [0.9, 0.99, 0.999, 1 - 1e-7])
def test_a_confident_token_keeps_its_gradient(p: float, learns: bool) -> None:
    """With the unit matrix as head dh is dz. In bfloat16 p − 1 would be off by a fifth at 0.99 (Liger-Kernel#1329)."""
    h = torch.zeros(1, 32, dtype=BF16)
    h[0, 3] = torch.tensor(p / (1 - p) * 31).log()
    w, y = torch.eye(32, dtype=BF16).requires_grad_(learns), torch.tensor([3])
    dz, = torch.autograd.grad(linear_cross_entropy(h.requires_grad_(), w, y).logp, h)  # fmt: skip
    truth = 1 - h.detach().double().softmax(1)[0, 3]
    assert abs(dz[0, 3].double() / truth - 1) <= 0.01


def test_log_p_of_an_almost_certain_token_keeps_its_digits() -> None:
    h, w = torch.tensor([[1.0]]), torch.tensor([[20.0], [0.0], [0.0]])
    logp = linear_cross_entropy(h, w, torch.tensor([0])).logp
    torch.testing.assert_close(logp.double(), -torch.tensor([2 * torch.tensor(-20.0).double().exp()]).log1p(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("offset", [8192.0, -8192.0])
def test_a_large_common_offset_costs_nothing(offset: float, learns: bool) -> None:
    """Logits that are multiples of 1/8 lose nothing to the offset; z_y − lse would lose 5e-4 (pytorch#195829)."""
    h, w, y, b = case(9, 8, 70)
    given = [h.mul(2).round() / 2, w.mul(4).round() / 4, torch.full_like(b, offset)]
    found, truth = outcome(linear_cross_entropy, given, y, learns), outcome(reference, [one.double() for one in given], y, learns)
    assert (found[0] - truth[0]).abs().max() <= 5e-6
    assert all(far(one, other) <= 1e-3 for one, other in zip(found, truth, strict=True))


def test_ties() -> None:
    """Equal logits: p = 1/V, H = ln V, and the gradient is the label's row less the mean row."""
    w = torch.eye(7).requires_grad_(False)
    h = torch.zeros(2, 7, requires_grad=True)
    odds = linear_cross_entropy(h, w, torch.tensor([0, 6]), entropy=True)
    odds.logp.sum().backward()
    flat = torch.tensor(7.0).log().expand(2)
    for one, other in zip((odds.logp, odds.lse, odds.entropy, h.grad), (-flat, flat, flat, w[[0, 6]] - 1 / 7), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("labels", [[-100, -100, -100], [], [-100, 2, 1], [1]], ids=str)
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_that_are_left_out_give_nothing_and_take_nothing(count: int, labels: list[int], learns: bool) -> None:
    """Whatever they hold, and whatever comes back to them; also where no row is left, or there is none."""
    y, w = torch.tensor(labels, dtype=torch.long), draw(5, 4).requires_grad_(learns)
    out = y < 0
    h = draw(len(labels), 4).masked_fill(out[:, None], torch.nan).requires_grad_()
    odds = linear_cross_entropy(h, w, y, entropy=True)
    upstream = torch.ones(len(labels)).masked_fill(out, torch.inf)
    torch.autograd.backward(odds[:count], (upstream,) * count)
    assert all(one.isfinite().all() and (one[out] == 0).all() for one in (*odds, h.grad))
    if learns:
        assert w.grad.isfinite().all() and (w.grad.abs().sum() > 0) == (~out).any()


@pytest.mark.parametrize("learns, kept", [(False, 0), (True, 0), (True, 2**24)], ids=["frozen", "learns", "learns, kept"])
@pytest.mark.parametrize("more", [False, True], ids=["", "bias and entropy"])
def test_where_no_row_is_left_out_none_is_looked_for(more: bool, learns: bool, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU would be waited for. The same numbers, also of hidden states and labels that lie apart."""
    monkeypatch.setattr(module, "FEW", kept)
    h, w, _, b = case(12, 16, 33)
    labels = torch.randint(33, (12, 2), generator=torch.Generator().manual_seed(0))[:, 0]
    given = [h, w, b if more else None]
    found, looked = outcome(linear_cross_entropy, given, labels, learns, entropy=more), torch.Tensor.nonzero
    monkeypatch.setattr(torch.Tensor, "nonzero", lambda one: pytest.fail("looked for") if len(one) == 12 else looked(one))

    def across(hidden: Tensor, *rest: Tensor | None, entropy: bool) -> TokenOdds:
        return linear_cross_entropy(hidden.T.contiguous().T, *rest, entropy=entropy, every=True)

    assert all(torch.equal(*pair) for pair in zip(found, outcome(across, given, labels, learns, entropy=more), strict=True))
    with torch.no_grad():
        alone = across(h, w, labels, given[2], entropy=more)
    assert all(torch.equal(*pair) for pair in zip(found, [one for one in alone if one is not None], strict=False))


def test_chunks_are_alike_and_take_over_the_memory_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 rows in chunks of at most 12 are three of 10, not two of 12 and one of 6."""
    monkeypatch.setattr(module, "ROWS", 12)
    h, w, _, _ = case(30, 8, 50)
    found = [(rows, product.untyped_storage()) for rows, product, _ in module._chunks(h, w)]
    assert [(rows.start, rows.stop) for rows, _ in found] == [(0, 10), (10, 20), (20, 30)]
    assert {(room.data_ptr(), room.nbytes()) for _, room in found} == {(found[0][1].data_ptr(), 10 * 50 * 4)}


class OnAGpu:
    """As much of 5,000 rows there as asks for a chunk; it has no numbers."""

    shape, is_cuda, dtype = (5000, 8), True, BF16

    def __getitem__(self, rows: slice) -> Tensor:
        return torch.empty(5000, 8, device="meta")[rows]

    def new_empty(self, *size: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device="meta")


@pytest.mark.parametrize("vocabulary, rows", [(1_000, 2500), (32_000, 1667), (60_000, 1000), (151_936, 250), (2_000_000, 250)])
def test_a_chunk_on_a_gpu_is_as_large_as_its_room(vocabulary: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 4096, 2048, 1024 and 256 rows: 256 MiB of float32 logits by 256 rows, never fewer than 256 and never more than 4096."""
    monkeypatch.setattr(module.fused, "wide_mm", lambda _, __, room: room)
    weight = torch.empty(vocabulary, 8, device="meta", dtype=BF16)
    _, product, factor = next(module._chunks(OnAGpu(), weight))
    assert product.shape == factor.shape == (rows, vocabulary)
    assert product.dtype == torch.float32 and factor.dtype == BF16


def test_an_entropy_that_nobody_asked_for_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.linalg, "vecdot", lambda *_: pytest.fail("computed"))
    h, w, y, b = case(9, 8, 50)
    assert linear_cross_entropy(h, w, y, b).entropy is None


def test_a_vocabulary_wider_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 20)
    h, w, y, _ = case(9, 8, 50)
    for one, other in zip(*(outcome(op, [h, w, None], y, True) for op in (linear_cross_entropy, reference)), strict=True):
        assert far(one, other) <= 5e-6


def test_products_are_no_larger_than_a_chunk_and_only_of_rows_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen head is multiplied once, and again only for an entropy that carries a gradient."""
    rows, mm = list[int](), module.fused.wide_mm
    monkeypatch.setattr(module, "ROWS", 8)
    monkeypatch.setattr(module.fused, "wide_mm", lambda a, *rest: rows.append(len(a)) or mm(a, *rest))
    h, w, y, _ = case(40, 8, 50)
    odds = linear_cross_entropy(h.requires_grad_(), w, y, entropy=True)
    torch.autograd.grad((odds.logp * odds.entropy.detach()).sum(), h, retain_graph=True)
    assert sum(rows) == 32 and max(rows) <= 8
    torch.autograd.grad(odds.entropy.sum(), h)
    assert sum(rows) == 64


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
def test_a_head_that_learns_keeps_few_products_and_computes_many_again(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same products come the same gradients."""
    rows, mm = list[tuple[int, int]](), module.fused.wide_mm
    monkeypatch.setattr(module, "ROWS", 8)
    monkeypatch.setattr(module.fused, "wide_mm", lambda a, b, *rest: rows.append((len(a), b.shape[1])) or mm(a, b, *rest))
    h, w, y, b = case(40, 8, 50, dtype)
    found = dict[int, list[Tensor]]()
    for spare, products in ((0, 32), (-1, 64)):
        monkeypatch.setattr(module, "FEW", 40 * 50 * dtype.itemsize + spare)
        rows.clear()
        found[spare] = outcome(linear_cross_entropy, [h, w, b], y, True, entropy=True, softcap=5.0)
        assert sum(count for count, across in rows if across == 50) == products
    assert all(far(one, other) <= 1e-6 for one, other in zip(*found.values(), strict=True))


def test_an_entropy_over_a_head_that_learns_is_had_from_the_products_that_were_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bias too."""
    rows, mm = list[int](), module.fused.wide_mm
    monkeypatch.setattr(module.fused, "wide_mm", lambda a, b, *rest: rows.append(b.shape[1]) or mm(a, b, *rest))
    h, w, y, _ = case(40, 8, 50)
    outcome(linear_cross_entropy, [h, w, None], y, True, entropy=True)
    assert rows.count(50) == 1


@pytest.mark.parametrize("place", range(3), ids=["hidden states", "weight", "bias"])
@pytest.mark.parametrize("kept", [0, 2**24], ids=["computed again", "kept"])
@pytest.mark.parametrize("entropy", [False, True], ids=["", "entropy"])
def test_any_one_of_them_may_learn_alone(entropy: bool, kept: int, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", kept)
    h, w, y, b = case(20, 8, 50)
    found = []
    for op, given in ((linear_cross_entropy, [h, w, b]), (reference, [h.double(), w.double(), b.double()])):
        own = [one.detach().clone().requires_grad_(number == place) for number, one in enumerate(given)]
        odds = [one for one in op(own[0], own[1], y, own[2], softcap=5.0, scale=0.5, entropy=entropy) if one is not None]
        lost = sum((draw(20, dtype=one.dtype, seed=seed) * one).sum() for seed, one in enumerate(odds))
        found.append(torch.autograd.grad(lost, own[place])[0])
    assert found[0].dtype == torch.float32 and far(*found) <= 5e-6


@pytest.mark.parametrize("learns, keeps", [(False, False), (True, True)], ids=["frozen", "learns"])
def test_a_frozen_head_keeps_what_it_hands_back_and_no_hidden_states(learns: bool, keeps: bool) -> None:
    """(N, D) numbers, and five of each row."""
    h, w, y, _ = case(20, 16, 50)
    h, w, held = h.requires_grad_(), w.requires_grad_(learns), list[Tensor]()
    with saved_tensors_hooks(lambda one: held.append(one) or one, lambda one: one):
        linear_cross_entropy(h, w, y)
    places = {one.data_ptr() for one in held}
    assert (h.data_ptr() in places) == keeps
    assert learns or sum(one.numel() for one in held if one.data_ptr() != w.data_ptr()) <= 20 * (16 + 5)


def test_where_nobody_asks_for_a_gradient_none_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where all is frozen, nor where gradients are switched off."""
    monkeypatch.setattr(module, "Odds", None)
    h, w, y, _ = case(9, 8, 50)
    found = linear_cross_entropy(h, w, y)
    with torch.no_grad():
        assert torch.equal(linear_cross_entropy(h.requires_grad_(), w, y).logp, found.logp)


def test_products_are_kept_by_a_cpu_alone() -> None:
    assert module._few(draw(2, 3), draw(4, 3))
    assert not module._few(*(torch.empty(size, 3, device="meta") for size in (2, 4)))


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_head_that_learns_a_weighted_log_p_takes_nothing_but_two_products_back(
    kind: dict, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where products are few: from the shares of each row that were kept. What is left out may be no number."""
    h, w, y, _ = case(300, 64, 333, dtype)

    def slopes(op: Callable[..., TokenOdds], hidden: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        own = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
        return torch.autograd.grad((draw(300, dtype=torch.float64).to(weight.dtype) * op(*own, y, **kind).logp).sum(), own)

    plain, truth = slopes(reference, h, w), slopes(reference, h.double(), w.double())
    monkeypatch.setattr(module, "_gradients", lambda *_: pytest.fail("computed once more"))
    h[y < 0] = torch.nan
    found = slopes(linear_cross_entropy, h, w)
    assert [one.dtype for one in found] == [dtype] * 2 and (found[0][y < 0] == 0).all()
    for one, theirs, exact in zip(found, plain, truth, strict=True):
        assert far(one, exact) <= (5e-6 if dtype == torch.float32 else 1.15 * far(theirs, exact) + 1e-3)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_window_in_parts_has_the_gradient_of_the_whole(parts: int) -> None:
    """The loss of every part over the count of the whole window: transformers#34191."""
    h, w, y, _ = case(41, 16, 97)

    def gradient(pieces: int) -> list[Tensor]:
        hidden, weight = h.clone().requires_grad_(), w.clone().requires_grad_()
        for part in torch.arange(41).tensor_split(pieces):
            (-linear_cross_entropy(hidden[part], weight, y[part]).logp.sum() / (y >= 0).sum()).backward()
        return [hidden.grad, weight.grad]

    for one, other in zip(gradient(parts), gradient(1), strict=True):
        assert far(one, other) <= 1e-6


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
def test_views_give_what_copies_give(learns: bool) -> None:
    """A weight whose rows lie apart, hidden states that lie across, numbers around both that are none; or a weight that lies across."""
    h, w, y, _ = case(9, 16, 33)
    whole = outcome(linear_cross_entropy, [h, w, None], y, learns)

    def apart(hidden: Tensor, weight: Tensor, labels: Tensor, bias: None) -> TokenOdds:
        around = [torch.cat((one, torch.full_like(one, torch.nan)), 1) for one in (hidden, weight)]
        return linear_cross_entropy(around[0].T.contiguous().T[:, :16], around[1][:, :16], labels, bias)

    across = outcome(lambda _h, _w, *rest: linear_cross_entropy(_h, _w.T.contiguous().T, *rest), [h, w, None], y, learns)
    for found in (outcome(apart, [h, w, None], y, learns), across):
        assert all(far(one, other) <= 1e-6 for one, other in zip(found, whole, strict=True))


@pytest.mark.parametrize("weight", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
def test_under_autocast_it_multiplies_what_autocast_would(weight: torch.dtype, learns: bool) -> None:
    """float32 hidden states, as a norm hands them out; each gradient comes back in its own kind; backward inside or outside."""
    h, w, y, b = case(20, 16, 50)
    given, results = [h, w.to(weight), b.to(weight)], []
    for op in (linear_cross_entropy, reference):
        with torch.autocast("cpu", BF16):
            inside = outcome(op, given, y, learns)
            own = [one.clone().requires_grad_(place == 0 or learns) for place, one in enumerate(given)]
            lost = op(own[0], own[1], y, own[2]).logp.sum()
        outside = torch.autograd.grad(lost, [one for one in own if one.requires_grad])
        assert [one.dtype for one in outside] == [one.dtype for one in own if one.requires_grad]
        results.append((*inside, *outside))
    assert far(results[0][0], results[1][0]) <= 2e-4  # the very roundings to bfloat16
    assert all(far(one, other) <= 1e-2 for one, other in zip(*results, strict=True))


def test_backward_under_autocast_of_a_forward_outside_it_stays_float32() -> None:
    h, w, y, _ = case(20, 16, 50)
    h, w = h.requires_grad_(), w.requires_grad_()
    lost = linear_cross_entropy(h, w, y).logp.sum()
    with torch.autocast("cpu", BF16):
        found = torch.autograd.grad(lost, (h, w))
    expected = torch.autograd.grad(reference(h.double(), w.double(), y).logp.sum(), (h, w))
    assert all(far(one, other) <= 5e-6 for one, other in zip(found, expected, strict=True))


def test_a_tied_weight_collects_both_gradients() -> None:
    table, ids = draw(20, 8).requires_grad_(), torch.arange(12)
    found, expected = (
        torch.autograd.grad(op(table[ids[:-1]].tanh(), table, ids[1:]).logp.sum(), table)[0] for op in (linear_cross_entropy, reference)
    )  # fmt: skip
    assert far(found, expected) <= 5e-6


def test_forward_mode_and_a_forced_reference_are_plain_torch() -> None:
    h, w, y, _ = case(6, 8, 20)
    step = draw(6, 8, seed=3)
    _, along = torch.func.jvp(lambda x: linear_cross_entropy(x, w, y).logp, (h,), (step,))
    own = h.clone().requires_grad_()
    slope = torch.autograd.grad(linear_cross_entropy(own, w, y).logp.sum(), own)[0]
    torch.testing.assert_close(along, (slope * step).sum(1), rtol=1e-4, atol=1e-5)
    with forward_ad.dual_level():
        odds = linear_cross_entropy(h, forward_ad.make_dual(w, draw(20, 8, seed=4)), y)
        assert forward_ad.unpack_dual(odds.logp).tangent is not None
    with road.only("reference"):
        assert torch.autograd.gradgradcheck(lambda x: linear_cross_entropy(x, w.double(), y).logp, own.double().detach().requires_grad_())


@pytest.mark.parametrize("place", range(3), ids=["hidden states", "weight", "bias"])
def test_a_forward_mode_derivative_along_any_one_of_them(place: int) -> None:
    h, w, y, b = case(6, 8, 20)
    given = [h, w, b]
    step = draw(*given[place].shape, seed=3)

    def along(op: Callable[..., TokenOdds]) -> Tensor:
        with forward_ad.dual_level():
            own = [forward_ad.make_dual(one, step) if number == place else one for number, one in enumerate(given)]
            return forward_ad.unpack_dual(op(own[0], own[1], y, own[2]).logp).tangent

    torch.testing.assert_close(along(linear_cross_entropy), along(reference))


@pytest.mark.parametrize("wide", [False, True], ids=["asked for", "float64"])
def test_plain_torch_has_every_derivative(wide: bool) -> None:
    """Where it is asked for, and where one of the three is in float64."""
    h, w, y, _ = case(6, 8, 20)
    own = (h.double() if wide else h).requires_grad_()
    with road.only("reference") if not wide else nullcontext():
        (slope,) = torch.autograd.grad(linear_cross_entropy(own, w.to(own.dtype), y).logp.square().sum(), own, create_graph=True)
    assert torch.autograd.grad(slope.sum(), own)[0].any()


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    h, w, y, _ = case(6, 8, 20)
    own = h.requires_grad_()
    (slope,) = torch.autograd.grad(linear_cross_entropy(own, w, y).logp.square().sum(), own, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_nothing_is_written_into_and_a_graph_serves_twice() -> None:
    h, w, y, b = case(9, 8, 30)
    before = [one.clone() for one in (h, w, y, b)]
    for learns in (False, True):
        own = [h.detach().requires_grad_(), w.detach().requires_grad_(learns)]
        odds = linear_cross_entropy(*own, y, b, softcap=5.0, scale=0.5, entropy=True)
        lost = sum(one.sum() for one in odds)
        first, second = (torch.autograd.grad(lost, own[: 1 + learns], retain_graph=True) for _ in range(2))
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert all(torch.equal(*pair) for pair in zip((h, w, y, b), before, strict=True))


@pytest.mark.parametrize("learns", [False, True], ids=["frozen", "learns"])
def test_torch_compile_keeps_it(learns: bool) -> None:
    h, w, y, b = case(9, 8, 30)
    kept = torch.compile(linear_cross_entropy, backend="aot_eager", fullgraph=True)
    for more in (False, True):
        given = [h, w, b if more else None]
        found, expected = (outcome(op, given, y, learns, entropy=more, softcap=5.0) for op in (kept, linear_cross_entropy))
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, BF16], ids=str)
def test_its_schemas_and_shapes_are_what_they_say(dtype: torch.dtype) -> None:
    h, w, y, b = case(9, 8, 30, dtype)
    tests = ("test_schema", "test_faketensor")
    for entropy, held in ((False, "u"), (False, "slopes"), (True, "products"), (True, "")):
        torch.library.opcheck(module._forward, (h, w, y, b, 5.0, 0.5, entropy, held), test_utils=tests)
    logp, lse, spread, products = module._forward(h, w, y, b, 5.0, 0.5, True, "products")
    for wanted, kept in (([True, False, True], None), ([False, True, False], products)):
        given = (h, w, y, b, logp, lse, spread, lse, logp, spread, 5.0, 0.5, wanted, kept)
        torch.library.opcheck(module._backward, given, test_utils=tests)
