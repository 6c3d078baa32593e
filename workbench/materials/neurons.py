"""Partial fusion: two models of one base made into one that is a little wider; and one model made narrower, on state dicts.

Units (`materials/units.py`) that the two models agree on are averaged. Those they disagree on are kept side by side, and each writes to
the residual stream with its model's share. What comes out is an ordinary model of the same family with a larger `intermediate_size`
and more heads; nothing but transformers is needed to run it.

What it is not: a matching of the residual streams. Models from two different starts are wider apart than anything here can mend. Nor
does it read files: whole state dicts come in and go out, and one block at a time is in double precision.
Tags as in the project's notes: [R] read in the authors' code (Fabian-Mor/partial_fusion_nn, which is for plain MLPs without biases);
[O] our own form of it for transformers.
"""

import math
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.materials.pairing import PAIRINGS, Pairing, check_room
from workbench.materials.products import AddHere, AddProduct, added_here
from workbench.materials.units import HEAD_NORMS, WRITES, Heard, Shape, State, Units, check, groups, neurons, put, shape_of, shared

Told = list[dict[str, float]]  # of each block what explains it
MIXED, INNER = WRITES


def fused(
    a: dict[str, Tensor],
    b: dict[str, Tensor],
    config: dict[str, Any],
    *,
    share_b: float,
    mlp: float,
    attention: float,
    match: Literal["place", "weights", "activations"],
    heard: Sequence[Heard] = (),
    add: AddProduct = added_here,
) -> Generator[Progress, None, tuple[dict[str, Tensor], dict[str, Any], Told]]:
    """One model of two: its state dict, in the types of `a`'s tensors, its config, and what explains each block, the first one first.
    Yields after each block.

    `config` is the config.json of both. `share_b` is λ_B in [0, 1], and λ_A = 1 − λ_B. Of the n neurons of a block the ⌊`mlp`·n⌋ that
    differ most are kept apart, and of the n groups of an attention the ⌊`attention`·n⌋ that differ most; `intermediate_size`,
    `num_key_value_heads` and `num_attention_heads` grow by as much, and `head_dim` is written out. How much two units differ is
    ‖x_A − x_B‖² over all their rows and columns. Those that are apart read with their own rows, and their columns are multiplied by
    their model's share; the others are averaged and come first, in `a`'s order. Averaged are the embeddings, the head and the final norm
    too. With 1 for both, every block gives λ_A·block_A + λ_B·block_B of what it is given (which is not the average of the two models'
    answers, because the blocks stand in one residual stream); with 0 for both it is an average, of neurons that are brought to one
    scale first [O].

    `match` says how the units of the two are paired (`materials/pairing.py`). "place": the j-th with the j-th, which is right for models
    tuned from one base. "weights": so that the total distance is least [R]; neurons with neurons, groups with groups, and in them query
    heads with query heads [O]. (−up, −down) is the same neuron too, and is not looked for. "activations": so that the total distance of
    what they say is least, S numbers h·‖down‖ of a neuron that gives its column h to write at S tokens, the same for (c·up, down/c) [R][O],
    and of a head what it gives o_proj [O]; `heard` is then that of both models, at the same tokens. What explains a block are the
    distances of its neurons and its heads, and the share that is paired `anew` where that may be.

    The norms before the attention and before the MLP become ones, their weights having gone into the rows that read them: a unit that
    is apart would otherwise see the averaged norm [O]. So with `share_b=1, mlp=0, attention=0` the result is `b` as a function, and not
    as numbers. As many units are kept apart in one block as in another, because transformers knows one width for all [O].

    `WorkbenchError` if the family will not do, the two do not have the config's tensors, a number is NaN or Inf, a share is not in
    [0, 1], q_norm or k_norm differ where groups are to be kept apart, the heads become more than transformers takes, there are more
    neurons than "weights" and "activations" take, or nothing was heard for these.
    """
    shape = _checked(a, b, config, match, heard, {"share_b": share_b, "mlp": mlp, "attention": attention})
    apart, apart_groups = _part(mlp, shape.neurons), _part(attention, shape.groups)
    wider = _wider(config, shape, apart, apart_groups)
    if apart_groups:
        _check_head_norms(a, b, shape)
    names = [name for name in shared(a, shape) if name in b]
    out = {name: torch.lerp(a[name].double(), b[name].double(), share_b).to(a[name].dtype) for name in names}
    kinds = (("neurons", neurons, INNER, apart, 1), ("heads", groups, MIXED, apart_groups, shape.heads // shape.groups))
    told: Told = []
    for at in shape.blocks():
        block: dict[str, float] = {}
        for kind, units, writes, count, heads in kinds:
            both = [units(state, at, shape) for state in (a, b)]
            x = [_said(at, writes, *own) for own in zip(both, (a, b), heard, strict=True)] if match == "activations" else both
            pairing = PAIRINGS[match](*x, count, heads, partial(add, at.rstrip(".")))
            put(out, a, at, _side_by_side(*both, share_b, pairing))
            numbers = pairing.distances() | ({} if match == "place" else {"anew": pairing.anew()})
            block |= {f"{kind} {name}": number for name, number in numbers.items()}
        told.append(block)
        yield Progress(len(told), shape.layers, "blocks fused")
    return out, wider, told


def pruned(
    a: dict[str, Tensor], config: dict[str, Any], *, keep: float, add: AddProduct = added_here
) -> Generator[Progress, None, tuple[dict[str, Tensor], dict[str, Any]]]:
    """The model with ⌊`keep`·n⌋ neurons a block, at least one, instead of n: its state dict, in `a`'s types, and its config. Yields after
    each block.

    Neurons that are alike become one, by Ward's clustering of (gate row, up row, down column): every neuron has the weight 1 and a
    cluster that of its members, and joined are always the two whose joining costs least, w_i·w_j/(w_i + w_j)·‖c_i − c_j‖² with the
    centres c [R]. A cluster reads with the mean of its members' rows and writes with the sum of their columns. The authors sum what
    reads and average what writes, which keeps equal neurons exact under ReLU; ours does so under any activation [O]. Attention stays
    as it is, number by number. `keep=1` gives the same function. One block takes (n, n) numbers of 8 bytes: 1 GB for n = 11 000.

    `WorkbenchError` if the family will not do, the tensors are not the config's, a number is NaN or Inf, or `keep` is not in (0, 1].
    """
    if not 0 < keep <= 1:
        raise WorkbenchError(f"keep is {keep}, and it is the share of neurons that stays. Give a number above 0, and 1 at most.")
    shape = shape_of(config)
    check(a, shape, "The model")
    width = max(1, _part(keep, shape.neurons))
    out = {name: tensor.clone() for name, tensor in a.items()}
    for done, at in enumerate(shape.blocks(), 1):
        units = neurons(a, at, shape)
        points = torch.cat([rows.flatten(1) for rows in units.values()], 1)
        put(out, a, at, _together(units, ward(points, width, partial(add, at.rstrip("."))), width))
        yield Progress(done, shape.layers, "blocks pruned")
    return out, {**config, "intermediate_size": width}


def cost(config: dict[str, Any]) -> tuple[int, int]:
    """(parameters, floating-point operations of one token on its way forward) of a model of this config.

    A head that is tied to the embeddings counts once as parameters. Operations are two for every weight of a matrix, those of the head
    among them and of the embeddings not; what attention does with the tokens before it grows with their number and is left out.
    """
    shape = shape_of(config)
    sizes = shape.sizes()
    inside = sum(math.prod(size) for name, size in sizes.items() if name.startswith("model.layers.") and len(size) == 2)
    return sum(map(math.prod, sizes.values())), 2 * (inside + shape.vocabulary * shape.hidden)


def ward(points: Tensor, clusters: int, add: AddHere = partial(added_here, "")) -> Tensor:
    """(n,) int64: the cluster of each of the (n, D) float64 points, numbered in the order of their first members.

    By chains of nearest neighbours: two clusters that are each other's nearest may be joined at once, since nothing that is joined
    elsewhere brings anything nearer to them; the tree is that of joining the cheapest pair of all each time. It is cut where `clusters`
    are left. Time n², memory n².
    """
    squares, weight = points.square().sum(1) / 2, points.new_ones(len(points))
    costs = squares[:, None] + squares
    add(costs, points, points.T, -1)
    costs.clamp_(min=0)
    costs = torch.maximum(costs, costs.T).fill_diagonal_(math.inf)  # a product is not symmetric in its last digit, and chains must end
    joins: list[tuple[float, int, int]] = []
    chain: list[int] = []
    while len(joins) < len(points) - 1:
        chain = chain or [int(weight.argmax())]
        last, nearest = chain[-1], int(costs[chain[-1]].argmin())
        if len(chain) == 1 or costs[last, nearest] < costs[last, chain[-2]]:
            chain.append(nearest)
        else:
            kept, gone = sorted((chain.pop(), chain.pop()))
            joins.append((float(costs[kept, gone]), kept, gone))
            _join(costs, weight, kept, gone)
    parent = list(range(len(points)))
    for _, kept, gone in sorted(joins, key=lambda join: join[0])[: len(points) - clusters]:
        parent[gone] = kept
    for member in range(len(points)):  # who was kept comes before who is gone, and has its cluster by then
        parent[member] = parent[parent[member]]
    return torch.tensor(parent).unique(return_inverse=True)[1]


def _join(costs: Tensor, weight: Tensor, kept: int, gone: int) -> None:
    """Two clusters in the place of the first, the costs to all others by Lance and Williams' rule for Ward; the second place is empty."""
    row = (weight + weight[kept]) * costs[kept] + (weight + weight[gone]) * costs[gone] - weight * costs[kept, gone]
    row /= weight + weight[kept] + weight[gone]
    costs[kept], costs[:, kept] = row, row
    costs[gone], costs[:, gone] = math.inf, math.inf
    weight[kept] += float(weight[gone])
    weight[gone] = 0


def _together(units: Units, cluster: Tensor, clusters: int) -> Units:
    """One unit for every cluster: the mean of what reads, the sum of what writes."""
    size = cluster.bincount(minlength=clusters).double()[:, None, None]
    out = {}
    for module, rows in units.items():
        total = rows.new_zeros(clusters, *rows.shape[1:]).index_add_(0, cluster, rows)
        out[module] = total if module in WRITES else total / size
    return out


def _checked(
    a: dict[str, Tensor], b: dict[str, Tensor], config: dict[str, Any], match: str, heard: Sequence[Heard], shares: dict[str, float]
) -> Shape:
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise WorkbenchError(f"{name} is {value}, and it is a share. Give a number from 0 to 1.")
    shape = shape_of(config)
    check_room(match, shape.neurons)
    if match == "activations" and len(heard) != 2:
        raise WorkbenchError("Matching by activations goes by what both models say, and nothing was heard of them. Give what they say.")
    check(a, shape, "The first model")
    check(b, shape, "The second model")
    return shape


def _said(at: str, writes: str, units: Units, state: State, heard: Heard) -> Units:
    """What these units of one block give the module that writes, by its name: (units, rows of each, S) float64."""
    says = heard[at + writes].double()
    if writes == INNER:  # (c·up, down/c) says c times as much, and its column is as much shorter
        says = says * state[f"{at}{writes}.weight"].double().norm(dim=0)
    return {writes: says.T.reshape(*units[writes].shape[:2], len(says))}


def _side_by_side(a: Units, b: Units, share_b: float, pairing: Pairing) -> Units:
    """The averages of the units that are pairs, then the units of a that are apart, then those of b."""
    alone_a, alone_b = pairing.alone()
    out = {}
    for module in a:
        share = (1 - share_b, share_b) if module in WRITES else (1.0, 1.0)
        average = torch.lerp(a[module][pairing.a], pairing.opposite(module, b[module]), share_b)
        out[module] = torch.cat([average, share[0] * a[module][alone_a], share[1] * b[module][alone_b]])
    return out


def _part(share: float, count: int) -> int:
    """⌊share·count⌋, with 0.29 of 100 as 29 though the product falls just short of it."""
    return math.floor(share * count + 1e-9)


def _wider(config: dict[str, Any], shape: Shape, apart: int, apart_groups: int) -> dict[str, Any]:
    looking = shape.heads // shape.groups
    if shape.family == "llama" and shape.hidden % ((shape.groups + apart_groups) * looking):
        fit = [more for more in range(shape.groups + 1) if shape.hidden % ((shape.groups + more) * looking) == 0]
        shares = [math.ceil(1000 * more / shape.groups) / 1000 for more in fit]  # rounded up, so that each gives what it stands for
        raise WorkbenchError(
            f"{apart_groups} of {shape.groups} groups kept apart would give {(shape.groups + apart_groups) * looking} query heads, and "
            f"transformers opens a Llama only if its hidden size, {shape.hidden}, is a multiple of their number. Give one of these for "
            f"attention: {', '.join(f'{share:g}' for share in shares)}."
        )
    return {
        **config,
        "intermediate_size": shape.neurons + apart,
        "num_key_value_heads": shape.groups + apart_groups,
        "num_attention_heads": (shape.groups + apart_groups) * looking,
        "head_dim": shape.each,
    }


def _check_head_norms(a: dict[str, Tensor], b: dict[str, Tensor], shape: Shape) -> None:
    for name in (at + norm for at in shape.blocks() for norm in HEAD_NORMS):
        if name in a and not torch.equal(a[name].double(), b[name].double()):
            raise WorkbenchError(
                f"{name} is not the same in the two models. All heads share it, so heads that are kept apart would see the average of the "
                "two. Give 0 for attention."
            )
