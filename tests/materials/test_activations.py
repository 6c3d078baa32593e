"""Units paired by what they say: the same model in other words is recognised, scale is worth nothing, who is silent stays where it is."""

import itertools

import pytest
import torch
from fusing import CLOSE, KINDS, both, config_of, fused, heard_of, model_of, pair, permuted, rescaled
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.pairing import by_activations, by_weights
from workbench.materials.units import WRITES, Units

MIXED, INNER = WRITES


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reads(state: dict[str, Tensor], layer: int, name: str) -> Tensor:
    """The rows of a module with the norm before them folded in."""
    norm = "post_attention_layernorm" if name.startswith("mlp") else "input_layernorm"
    return state[f"model.layers.{layer}.{name}.weight"] * state[f"model.layers.{layer}.{norm}.weight"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_a_copy_is_found_to_the_last_unit(kind: str) -> None:
    """All weight on the copy: what comes out is the copy, each of its neurons, groups and query heads where the first model has it."""
    a, _, config = pair(kind)
    copy = model_of(config, permuted(model_of(config, rescaled(a))))
    state, _, told = both(a, copy, config, share_b=1.0, match="activations")
    for layer, block in enumerate(told):
        for name in ("mlp.gate_proj", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            assert torch.equal(state[f"model.layers.{layer}.{name}.weight"], reads(a.state_dict(), layer, name))
        assert torch.equal(state[f"model.layers.{layer}.{MIXED}.weight"], a.state_dict()[f"model.layers.{layer}.{MIXED}.weight"])
        assert block["neurons anew"] > 0.9 and block["heads anew"] > 0 and max(block["neurons cut"], block["heads cut"]) < 1e-5


@pytest.mark.parametrize("mlp", [0.0, 0.3])
def test_the_scale_of_a_neuron_is_worth_nothing(mlp: float) -> None:
    a, b, config = pair()
    knobs = {"share_b": 0.3, "mlp": mlp, "attention": 0.5, "match": "activations"}
    plain, told = both(a, b, config, **knobs)[::2]
    for one, other in ((a, model_of(config, rescaled(b))), (model_of(config, rescaled(a)), b)):
        again, told_again = both(one, other, config, **knobs)[::2]
        for name in plain:
            torch.testing.assert_close(again[name], plain[name], **CLOSE)
        assert all(block == pytest.approx(own, rel=1e-4) for block, own in zip(told_again, told, strict=True))


def test_near_are_those_who_say_the_same_with_columns_of_their_length() -> None:
    """The total is the least there is of ‖h_A·‖d_A‖ − h_B·‖d_B‖‖² over the tokens, worked out for each two alone."""
    a, b, config = pair()
    told = both(a, b, config, mlp=0.0, match="activations")[2]
    for layer, block in enumerate(told):
        name = f"model.layers.{layer}.{INNER}"
        says = [(heard_of(model)[name].double() * model.state_dict()[f"{name}.weight"].norm(dim=0)).T for model in (a, b)]
        costs = torch.cdist(*says, compute_mode="donot_use_mm_for_euclid_dist").square()
        far = costs[linear_sum_assignment(costs.numpy())].sqrt() / (sum(own.square().sum() for own in says) / 80).sqrt()
        assert block["neurons mean"] == pytest.approx(float(far.mean())) and block["neurons cut"] == pytest.approx(float(far.max()))


def test_it_goes_by_what_is_said_and_not_by_weights() -> None:
    """Two strangers whose heads are heard saying the same."""
    a, b, config = pair()
    for match, alike in (("activations", True), ("weights", False)):
        told = fused(a.state_dict(), b.state_dict(), config, match=match, heard=[heard_of(a), heard_of(a)])[2]
        assert (told[0]["heads cut"] == 0) == alike


@pytest.mark.parametrize("apart", [0, 1, 2])
def test_heads_stand_in_the_order_in_which_they_say_most_alike(apart: int) -> None:
    a, b = ({MIXED: drawn(3, 6, 5, seed=seed)} for seed in (1, 2))  # 3 groups of 3 heads that mix 2 numbers at 5 tokens
    every = []
    for rows in itertools.combinations(range(3), 3 - apart):
        for columns in itertools.permutations(range(3), 3 - apart):
            for orders in itertools.product(itertools.permutations(range(3)), repeat=3 - apart):
                far = [
                    (a[MIXED][row].view(3, 10) - b[MIXED][column].view(3, 10)[list(order)]).square().sum().item()
                    for row, column, order in zip(rows, columns, orders, strict=True)
                ]
                every.append((sum(far), rows, columns, orders))
    least, *best = min(every)
    pairs = by_activations(a, b, apart, 3)
    assert [tuple(pairs.a.tolist()), tuple(pairs.b.tolist()), tuple(map(tuple, pairs.heads.tolist()))] == best
    assert float(pairs.squares[pairs.a].sum()) == pytest.approx(least)


def places(pairs: object) -> list[list[int]]:
    return [pairs.a.tolist(), pairs.b.tolist(), *pairs.heads.T.tolist()]


@pytest.mark.parametrize("apart", [0, 1, 3, 5, 9])
@pytest.mark.parametrize("heads", [1, 3])
def test_who_is_silent_stands_opposite_its_own_place(apart: int, heads: int) -> None:
    """Of 12 units 9 are silent in both models, and the others' order is another: the silent ones stay, whoever is apart."""
    module, speaks = (MIXED if heads > 1 else INNER), torch.tensor([2, 5, 6])
    one = torch.zeros(12, heads, 4, dtype=torch.float64)
    one[speaks] = drawn(3, heads, 4)
    other = one.clone()
    other[speaks] = one[speaks.roll(1)]
    pairs = by_activations({module: one}, {module: other}, apart, heads)
    assert len(pairs.a) == 12 - apart and pairs.squares.eq(0).all()
    silent = [(own, opposite) for own, opposite in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True) if own not in speaks]
    assert all(own == opposite for own, opposite in silent)
    assert all(heads == sorted(heads) for heads in pairs.heads.tolist())


@pytest.mark.parametrize("apart", [0, 1, 3, 6])
def test_where_nobody_speaks_all_stand_where_they_are(apart: int) -> None:
    nothing = {INNER: torch.zeros(6, 1, 3, dtype=torch.float64)}
    pairs = by_activations(nothing, nothing, apart, 1)
    assert pairs.a.tolist() == pairs.b.tolist() and len(pairs.a) == 6 - apart


@pytest.mark.parametrize(("one", "other"), [(0, 2), (2, 0), (1, 1)])
def test_silent_heads_stay_though_the_one_that_speaks_has_moved(one: int, other: int) -> None:
    a, b = ({MIXED: torch.zeros(1, 3, 4, dtype=torch.float64)} for _ in range(2))
    a[MIXED][0, one] = b[MIXED][0, other] = drawn(4)
    wanted = [0, 1, 2]
    wanted[one], wanted[other] = other, one
    assert by_activations(a, b, 0, 3).heads.tolist() == [wanted]


@pytest.mark.parametrize("apart", [0, 2, 7])
def test_twins_stand_opposite_their_own_place_though_float32_tells_them_apart(apart: int) -> None:
    pairs_of = drawn(5, 1, 6, seed=3).repeat(2, 1, 1)
    one, other = ({INNER: pairs_of * (1 + 1e-7 * drawn(10, 1, 6, seed=seed))} for seed in (4, 5))
    pairs = by_activations(one, other, apart, 1)
    assert pairs.a.tolist() == pairs.b.tolist() and len(pairs.a) == 10 - apart
    assert by_weights(one, other, 0, 1).b.tolist() != list(range(10)), "in float64 they are told apart"


def test_a_model_whose_neurons_are_silent_here_and_there_is_itself() -> None:
    a = model_of(config_of(), seed=1)
    for layer in range(2):
        a.state_dict()[f"model.layers.{layer}.mlp.gate_proj.weight"][3::4] = 0  # 10 of 40
    turned: Units = {name: tensor.clone() for name, tensor in a.state_dict().items()}
    for name in (name for name in turned if ".mlp." in name):  # the first 3 speak
        rows = turned[name].T if "down" in name else turned[name]
        rows[:3] = rows[[1, 2, 0]]
    for mlp in (0.0, 0.25):
        state = both(a, model_of(config_of(), turned), config_of(), share_b=1.0, mlp=mlp, match="activations")[0]
        together = 40 - int(40 * mlp)
        own = reads(a.state_dict(), 0, "mlp.up_proj")
        found = state["model.layers.0.mlp.up_proj.weight"][:together]
        unit = [rows / rows.norm(dim=1, keepdim=True) for rows in (own, found)]
        assert ((unit[1] @ unit[0].T) > 1 - 1e-9).any(1).all()
        if not mlp:
            torch.testing.assert_close(unit[1], unit[0], **CLOSE)


def test_nothing_heard_is_said() -> None:
    a, b, config = pair()
    with pytest.raises(WorkbenchError, match="nothing was heard of them"):
        fused(a.state_dict(), b.state_dict(), config, match="activations")
