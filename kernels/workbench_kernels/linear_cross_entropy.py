"""Log-probability, log-sum-exp and entropy of every token straight from the hidden states, with no (N, V) tensor of logits.

    z = cap(scale·h·Wᵀ + b),  cap(x) = c·tanh(x/c) (Gemma 2)      logp = (z_y − m) − log s,  lse = m + log s,  m = max z,  s = Σ e^(z−m)
    p = softmax(z)                                                H = log s − Σ p·(z − m)
    dz_k = g_p·(1[k=y] − p_k) + g_s·p_k − g_H·p_k·(log p_k + H),  times scale·(1 − (z/c)²);  dh = dz·W,  dW = dzᵀ·h,  db = Σ dz

dz of a token is linear in its own three upstream numbers, whatever the objective weighs it with. So where the head is frozen the forward
pass forms u = Σ_k (p_k − 1[k=y])·cap′_k·W_k beside the statistics, chunk after chunk of rows, and the backward pass only scales it:
d logp/dh = −scale·u and d lse/dh = scale·(u + cap′_y·W_y). The entropy's gradient, and a head that learns, compute the chunks once more
in the backward pass. Where the products of a head that learns are few, a CPU keeps (p_k − 1[k=y])·cap′_k of every row in their place: u and
dW are each one product from it. Ours, from kernels that fix the token's weight before (github.com/linkedin/Liger-Kernel, arXiv:2411.09009).

Shapes: hidden (N, D) · weight (V, D) in float32, bfloat16 or float16 · labels (N,) int64, −100 for a row that is left out: its results
are 0, it has no gradient, and no product is spent on it · results (N,) float32. A CPU rounds logits to the weight's kind, as transformers
does; a GPU never does. From there on all is float32, and dz is rounded once. 1 − p_y is the sum of the others, not a difference: a
confident token keeps its gradient. Operations: 2NVD for the statistics, 4NVD with a gradient, 8NVD where the head learns (6NVD with
products that were kept) or the entropy carries a gradient. Memory beside results and gradients: a chunk's logits; on a GPU a slab of
dz where the head learns, and nothing for the statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from workbench_kernels import linear_cross_entropy_fused as fused
from workbench_kernels.parts import cdiv
from workbench_kernels.road import forced, interpreted, pick

IGNORED = -100
ROWS = 256  # of a chunk on a CPU: fewer read the weight too often, more only cost memory
CHUNK = 2**28  # bytes of a chunk's products on a GPU
BLOCK = 2**18  # logits that a CPU works on at a time, so that they stay in its cache
FEW = 2**24  # bytes of all products up to which a CPU keeps them for the backward pass of a head that learns


class TokenOdds(NamedTuple):
    """Of every row: log p of its label, log-sum-exp of its logits, and its entropy where that was asked for."""

    logp: Tensor
    lse: Tensor
    entropy: Tensor | None


def reference(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None = None,
    softcap: float | None = None, scale: float = 1.0, entropy: bool = False,
) -> TokenOdds:  # fmt: skip
    """The specification: all logits at once, in the weight's kind as transformers computes them, then in float32 (float64 stays)."""
    z = F.linear(hidden.to(weight.dtype), weight)
    z = (z if z.dtype == torch.float64 else z.float()) * scale
    z = z if bias is None else z + bias.to(z.dtype)
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    lived, table = labels != IGNORED, z.log_softmax(-1)
    logp = table.gather(1, labels.where(lived, 0)[:, None])[:, 0]
    spread = -(table.exp() * table).sum(-1) if entropy else None
    return TokenOdds(*(None if one is None else torch.where(lived, one, 0) for one in (logp, z.logsumexp(-1), spread)))


def _chunks(hidden: Tensor, weight: Tensor, products: Tensor | None = None) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows, their products with the weight, and room for the factor of a second product. The next chunk takes the memory over, but for
    products that are there already."""
    n, vocabulary = hidden.shape[0], weight.shape[0]
    most = max(256, min(4096, CHUNK // (4 * vocabulary) // 256 * 256)) if hidden.is_cuda else ROWS
    each = cdiv(n, cdiv(n, most)) if n else 1
    room = hidden.new_empty(min(n, each), vocabulary, dtype=torch.float32 if hidden.is_cuda or interpreted() else hidden.dtype)
    factor = room if room.dtype == hidden.dtype else torch.empty_like(room, dtype=hidden.dtype)
    for start in range(0, n, each):
        rows = slice(start, min(start + each, n))
        live = slice(0, rows.stop - start)
        product = fused.wide_mm(hidden[rows], weight.T, room[live]) if products is None else products[rows]
        yield rows, product, factor[live]


def _blocks(product: Tensor) -> Iterator[slice]:
    """Rows of a chunk that a CPU works on at a time; a GPU takes it whole."""
    each = product.shape[0] if product.is_cuda else max(1, BLOCK // product.shape[1])
    return (slice(start, start + each) for start in range(0, product.shape[0], each))


def _logits(block: Tensor, bias: Tensor | None, softcap: float | None, scale: float) -> Tensor:
    """z of a block in float32: the block itself where nothing is done to it."""
    z = block.float()
    z = z if scale == 1 else z * scale
    z = z if bias is None else z + bias
    return z if softcap is None else z.div(softcap).tanh_().mul_(softcap)


def _slope(z: Tensor, softcap: float | None) -> Tensor | None:
    """cap′ = 1 − (z/c)², where there is a cap."""
    return None if softcap is None else (z / softcap).square_().neg_().add_(1)


def _odds(top: Tensor, rest: Tensor, moment: Tensor, z_y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logp, lse and H of m, z_y, and over all tokens but the label Σ e^(z−m) and Σ e^(z−m)·(z−m)."""
    own = z_y - top
    s = rest + own.exp()
    # With the likeliest token as label s is 1 + rest, which is 1 in float32 long before rest is nothing.
    log_s = torch.where(own == 0, rest.log1p(), s.log())
    return own - log_s, top + log_s, (log_s - (moment + own.exp() * own) / s).clamp_min(0)


def _rows(
    product: Tensor, factor: Tensor | None, y: Tensor, bias: Tensor | None,
    softcap: float | None, scale: float, entropy: bool, state: Tensor,
) -> None:  # fmt: skip
    """What `fused.rows` does, in torch; no second factor where it is None."""
    top, rest, moment, z_y = state
    for block in _blocks(product):
        z, own = _logits(product[block], bias, softcap, scale), y[block, None]
        z_y[block], top[block] = z.gather(1, own)[:, 0], z.amax(1)
        p, slope = z.softmax(1), None if factor is None else _slope(z, softcap)
        s = 1 / p.amax(1)
        others = p.scatter_(1, own, 0).sum(1)
        rest[block] = others * s
        if entropy:
            moment[block] = torch.linalg.vecdot(p, z - top[block, None]) * s
        if factor is not None:
            p.scatter_(1, own, -others[:, None])
            factor[block] = p if slope is None else p.mul_(slope)


def _gradients(
    hidden: Tensor, weight: Tensor, y: Tensor, bias: Tensor | None, softcap: float | None, scale: float,
    lse: Tensor, others: Tensor, at_y: Tensor, g_h: Tensor | None, shift: Tensor | None, wanted: list[bool], products: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """What `fused.gradients` does, in torch and from chunks of rows; from `products` where they were kept."""
    dh = hidden.new_empty(hidden.shape if wanted[0] else (0, hidden.shape[1]))
    dw = lse.new_zeros(weight.shape if wanted[1] else (0, hidden.shape[1]))
    db = lse.new_zeros(weight.shape[0] if wanted[2] else 0)
    for rows, product, factor in _chunks(hidden, weight, products):
        own, its_others, its_at_y = y[rows, None], others[rows, None], at_y[rows, None]
        for block in _blocks(product):
            z = _logits(product[block], bias, softcap, scale)
            dz, slope, more = z.softmax(1), _slope(z, softcap), its_others[block]
            if g_h is not None:
                more = z.add(shift[rows][block, None]).mul_(-g_h[rows][block, None]).add_(more)
            dz.mul_(more).scatter_(1, own[block], its_at_y[block])
            dz = dz if slope is None else dz.mul_(slope)
            if wanted[2]:
                db.add_(dz.sum(0))
            factor[block] = dz if scale == 1 else dz.mul_(scale)
            del dz  # before the next one is made
        if wanted[0]:
            torch.mm(factor, weight, out=dh[rows])
        if wanted[1]:
            dw.add_(fused.wide_mm(factor.T, hidden[rows]))
    return dh, dw, db


@torch.library.custom_op("workbench::token_odds", mutates_args=())
def _forward(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None,
    softcap: float | None, scale: float, entropy: bool, held: str, every: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """logp, lse, H (empty where it is not asked for), and what is held for the backward pass: "u" (N, D), all "products" or what becomes of
    them, "slopes" (N, V), or ""."""
    n, triton, live = labels.shape[0], pick(hidden) == "triton", _live(labels, every)
    h, y = _of(hidden, live), _of(labels, live)
    kept, state = h.new_empty(len(y), h.shape[1]) if held == "u" else h[:0], torch.zeros(4, y.shape[0], device=h.device)
    if held in ("products", "slopes"):
        kept = fused.wide_mm(h, weight.T)
        _rows(kept, kept if held == "slopes" else None, y, bias, softcap, scale, entropy, state)
    elif triton and held != "u" and y.shape[0]:
        state = fused.statistics(h, weight, y, bias, softcap, scale, entropy)
    else:
        for rows, product, factor in _chunks(h, weight):
            own = factor if held == "u" else None
            (fused.rows if triton else _rows)(product, own, y[rows], bias, softcap, scale, entropy, state[:, rows])
            if own is not None:
                torch.mm(own, weight, out=kept[rows])
    logp, lse, spread = (_all(one, n, live) for one in _odds(*state))
    return logp, lse, spread if entropy else spread[:0].clone(), _all(kept, n, live) if held else kept.clone()


@_forward.register_fake
def _(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None,
    softcap: float | None, scale: float, entropy: bool, held: str, every: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    n, line = hidden.shape[0], hidden.new_empty(hidden.shape[0], dtype=torch.float32)
    kept = {"": (0, hidden.shape[1]), "u": (n, hidden.shape[1])}.get(held, (n, weight.shape[0]))
    return line, torch.empty_like(line), line.new_empty(n if entropy else 0), hidden.new_empty(kept)


def _live(labels: Tensor, every: bool) -> Tensor | None:
    """Which rows are not left out, for which a GPU is waited for; None if it is known that none is."""
    return None if every else (labels != IGNORED).nonzero()[:, 0]


def _of(one: Tensor, live: Tensor | None) -> Tensor:
    return one.contiguous() if live is None else one[live]


def _all(one: Tensor, n: int, live: Tensor | None) -> Tensor:
    """What is told of some rows, for all, with 0 for the rest."""
    return one if len(one) == n else one.new_zeros(n, *one.shape[1:]).index_copy_(0, live, one)


@torch.library.custom_op("workbench::token_odds_backward", mutates_args=())
def _backward(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, logp: Tensor, lse: Tensor, spread: Tensor,
    g_p: Tensor, g_s: Tensor, g_h: Tensor | None, softcap: float | None, scale: float, wanted: list[bool],
    products: Tensor | None = None, every: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dh, and dW and db in float32, with the products computed once more or as they were kept; what is not wanted comes back empty."""
    live = _live(labels, every)
    h, y, g_p, g_s, logp, lse = (_of(one, live) for one in (hidden, labels, g_p, g_s, logp, lse))
    others, at_y, shift = g_s - g_p, g_s * logp.exp() - g_p * logp.expm1(), None
    if g_h is not None:
        g_h, spread = _of(g_h, live), _of(spread, live)
        at_y, shift = at_y - g_h * logp.exp() * (logp + spread), spread - lse
    given = (h, weight, y, bias, softcap, scale, lse, others, at_y, g_h, shift, wanted)
    products = products if products is None or len(y) == len(products) else products[live]
    dh, dw, db = fused.gradients(*given) if pick(h) == "triton" and y.shape[0] else _gradients(*given, products)
    return _all(dh.to(hidden.dtype), len(hidden) if wanted[0] else 0, live), dw, db


@_backward.register_fake
def _(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, logp: Tensor, lse: Tensor, spread: Tensor,
    g_p: Tensor, g_s: Tensor, g_h: Tensor | None, softcap: float | None, scale: float, wanted: list[bool],
    products: Tensor | None = None, every: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dh = hidden.new_empty(hidden.shape if wanted[0] else (0, hidden.shape[1]))
    return dh, logp.new_empty(weight.shape if wanted[1] else (0, hidden.shape[1])), logp.new_empty(weight.shape[0] if wanted[2] else 0)


def _few(hidden: Tensor, weight: Tensor) -> bool:
    """Whether all products are worth keeping: so few that nobody misses the memory, where computing them again takes the longest."""
    return hidden.device.type == "cpu" and pick(hidden) == "reference" and hidden.shape[0] * weight.shape[0] * weight.element_size() <= FEW


class Odds(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None,
        softcap: float | None, scale: float, entropy: bool, every: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        ctx.learns = ctx.needs_input_grad[1] or ctx.needs_input_grad[3]
        few = "slopes" if bias is None and not entropy else "products"  # what a bias and an entropy learn is summed in float32
        held = (few if _few(hidden, weight) else "") if ctx.learns else "u"
        logp, lse, spread, kept = _forward(hidden, weight, labels, bias, softcap, scale, entropy, held, every)
        again = (hidden, bias) if ctx.learns or entropy else (None, None)
        ctx.save_for_backward(weight, labels, logp, lse, spread, kept, *again)
        ctx.set_materialize_grads(False)
        ctx.softcap, ctx.scale, ctx.entropy, ctx.held, ctx.every = softcap, scale, entropy, held, every
        return logp, lse, spread

    @staticmethod
    @once_differentiable
    def backward(ctx, g_p: Tensor | None, g_s: Tensor | None, g_h: Tensor | None) -> tuple[Tensor | None, ...]:
        weight, labels, logp, lse, spread, kept, hidden, bias = ctx.saved_tensors
        g_p = torch.zeros_like(logp) if g_p is None else g_p
        g_h = g_h if ctx.entropy else None  # torch.compile hands out zeros for what has no gradient
        if ctx.held in ("products", "") or g_h is not None or (ctx.learns and g_s is not None):
            wanted, g_s = [ctx.needs_input_grad[place] for place in (0, 1, 3)], torch.zeros_like(logp) if g_s is None else g_s
            more = ctx.softcap, ctx.scale, wanted, kept if ctx.held == "products" else None, ctx.every
            found = _backward(hidden, weight, labels, bias, logp, lse, spread, g_p, g_s, g_h, *more)
            kinds = (weight.dtype, weight.dtype, bias.dtype if wanted[2] else None)
            dh, dw, db = (one.to(kind) if need else None for one, kind, need in zip(found, kinds, wanted, strict=True))
            return dh, dw, None, db, None, None, None, None
        lived, dw = labels != IGNORED, None
        rate = torch.where(lived, -g_p if g_s is None else g_s - g_p, 0)[:, None] * ctx.scale
        if ctx.learns:
            own = torch.where(lived[:, None], rate * hidden, 0).to(kept.dtype)
            with torch.autocast(kept.device.type, enabled=False):  # the number formats were settled in the forward pass
                dw, kept = kept.T @ own, kept @ weight
        dh = rate * kept
        if g_s is not None:
            slope = 1 if ctx.softcap is None else 1 - ((logp + lse) / ctx.softcap).square()
            dh = dh + torch.where(lived, g_s * slope, 0)[:, None] * ctx.scale * weight[labels.where(lived, 0)]
        return dh.to(kept.dtype), dw, None, None, None, None, None, None


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None = None,
    softcap: float | None = None, scale: float = 1.0, entropy: bool = False, every: bool = False,
) -> TokenOdds:  # fmt: skip
    """The odds of `labels` under the head (weight, bias) at `hidden`; see the module's docstring. `every`: no row is left out."""
    given = [one for one in (hidden, weight, bias) if one is not None]
    exact = any(one.dtype == torch.float64 or forward_ad.unpack_dual(one).tangent is not None for one in given)
    if exact or forced() == "reference":
        return reference(hidden, weight, labels, bias, softcap, scale, entropy)
    place = hidden.device.type
    kind = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else weight.dtype
    hidden, weight = hidden.to(kind), weight.to(kind)
    weight, bias = weight if weight.stride(1) == 1 else weight.contiguous(), None if bias is None else bias.contiguous()
    if torch.is_grad_enabled() and any(one.requires_grad for one in given):
        logp, lse, spread = Odds.apply(hidden, weight, labels, bias, softcap, scale, entropy, every)
    else:
        logp, lse, spread, _ = _forward(hidden, weight, labels, bias, softcap, scale, entropy, "", every)
    return TokenOdds(logp, lse, spread if entropy else None)
