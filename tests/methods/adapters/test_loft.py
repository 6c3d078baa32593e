"""LOFT (arXiv:2605.11872): where the directions come from, and what a rotation of them is."""

import math

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.evidence import Evidence, gradients, surprise
from workbench.materials.rotation import RotationAttachment
from workbench.materials.templates import Encoded
from workbench.methods.adapters.loft import LOFT

QUERY, KEY, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.2.mlp.down_proj"
ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, False) for start in range(2, 200, 11)]
EVIDENCE = Evidence({"": ROWS}, 0, torch.device("cpu"))
SUPPORTS = ("gradient skew", "gradient", "activation", "principal", "minor", "random", "coordinates")


def attached(seed: int = 0, model: PreTrainedModel | None = None, **knobs: object) -> RotationAttachment:
    adapter, model = LOFT(**{"rank": 4, **knobs}), model or make_model()
    return adapter.attach(model, seed, drain(adapter.study(model, EVIDENCE)))


def directions(attachment: RotationAttachment, name: str = QUERY) -> Tensor:
    return attachment.model.get_submodule(name).rotation.directions


def onto(found: Tensor) -> Tensor:
    """The projection that says which subspace it is, whatever its axes."""
    return found @ found.T


def gradient_of(name: str) -> tuple[Tensor, Tensor]:
    """W and the whole G on the rows."""
    model, found = make_model(), []
    drain(gradients(model, [f"{name}.weight"], EVIDENCE.batches(), lambda _, gradient: found.append(gradient.clone())))
    return model.get_parameter(f"{name}.weight").detach(), torch.stack(found).sum(0)


def skew(name: str) -> Tensor:
    weight, gradient = gradient_of(name)
    return weight.T @ gradient - gradient.T @ weight


@pytest.mark.parametrize("support", SUPPORTS)
def test_directions_are_orthonormal_and_counted(support: str) -> None:
    attachment = attached(support=support)
    for name, size in ((QUERY, 32), (DOWN, 64)):
        own = directions(attachment, name)
        assert own.shape == (size, 4) and torch.allclose(own.T @ own, torch.eye(4), atol=1e-5)
    assert all(turn.numel() == 6 for _, turn in attachment.trained())


@pytest.mark.parametrize("support", SUPPORTS)
def test_no_singular_value_of_any_matrix_moves(support: str) -> None:
    attachment = attached(support=support)
    for name in (QUERY, KEY, DOWN):
        matrix = attachment.model.get_submodule(name)
        torch.nn.init.normal_(matrix.rotation.turn, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            turned = matrix.weight + matrix.weight @ matrix.rotation.directions @ matrix.rotation.change() @ matrix.rotation.directions.T
            assert not torch.allclose(turned, matrix.weight, atol=1e-3)
            assert torch.allclose(torch.linalg.svdvals(turned), torch.linalg.svdvals(matrix.weight), atol=1e-5)


def test_two_coordinates_are_one_rotation_of_a_plane() -> None:
    """The columns turn by the angle 2·arctan(q) in the plane of the two inputs, and no other column moves."""
    attachment = attached(rank=2, support="coordinates")
    matrix = attachment.model.get_submodule(QUERY)
    first, second = directions(attachment).argmax(0).tolist()
    with torch.no_grad():
        matrix.rotation.turn.fill_(0.3)
        turned = matrix(torch.eye(32)).T
    wanted, angle = matrix.weight.detach().clone(), 2 * math.atan(0.3)
    one, other = wanted[:, first].clone(), wanted[:, second].clone()
    wanted[:, first] = math.cos(angle) * one + math.sin(angle) * other
    wanted[:, second] = math.cos(angle) * other - math.sin(angle) * one
    assert torch.allclose(turned, wanted, atol=1e-6)


def test_as_many_directions_as_there_are_inputs_turn_the_whole_matrix() -> None:
    """P = I up to its own turning: OFT with a single block."""
    attachment = attached(rank=32, support="random", targets="mlp")
    matrix = attachment.model.get_submodule("model.layers.0.mlp.up_proj")
    torch.nn.init.normal_(matrix.rotation.turn, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        turn = torch.linalg.lstsq(matrix.weight, matrix(torch.eye(32)).T).solution  # R′ in W R′
    assert torch.allclose(turn @ turn.T, torch.eye(32), atol=1e-3) and not torch.allclose(turn, torch.eye(32), atol=0.1)


def test_the_weight_tells_principal_minor_and_coordinate_directions() -> None:
    weight = make_model().get_parameter(f"{QUERY}.weight").detach()
    right = torch.linalg.svd(weight).Vh
    assert torch.allclose(onto(directions(attached(support="minor"))), onto(right[-4:].T), atol=1e-4)
    for rank in (4, 16):  # by iteration, and by the whole space
        found = directions(attached(support="principal", rank=rank))
        kept, most = (weight @ found).square().sum(), (weight @ right[:rank].T).square().sum()
        assert 0.97 * most < kept <= most * 1.0001
    chosen = directions(attached(support="coordinates")).argmax(0)
    assert set(chosen.tolist()) == set(weight.norm(dim=0).topk(4).indices.tolist())


@pytest.mark.parametrize("name", [QUERY, DOWN])
def test_gradient_skew_holds_more_of_what_a_rotation_can_gain_than_any_other_support(name: str) -> None:
    """‖PᵀSP‖, the slope of the loss over all rotations inside P."""
    wanted = skew(name)
    gain = {kind: directions(attached(support=kind), name) for kind in SUPPORTS}
    gain = {kind: float((own.T @ wanted @ own).norm()) for kind, own in gain.items()}
    best = float(torch.linalg.svdvals(wanted)[:4].norm())
    assert 0.95 * best < gain["gradient skew"] <= best * 1.001
    assert all(other <= gain["gradient skew"] for other in gain.values())


def test_the_slope_of_the_loss_along_a_rotation_is_what_skew_says() -> None:
    """dL/dQ at Q = 0 is −2(PᵀSP) above the diagonal: to first order R is I − 2Q."""
    attachment, wanted = attached(support="random"), skew(QUERY)
    for batch in EVIDENCE.batches():
        surprise(attachment.model, batch).backward()
    own = directions(attachment)
    slope = own.T @ wanted @ own
    above = torch.triu_indices(4, 4, 1)
    assert torch.allclose(attachment.model.get_submodule(QUERY).rotation.turn.grad, -2 * slope[above[0], above[1]], atol=1e-5)


def test_the_gradient_and_what_is_read_tell_their_strongest_directions() -> None:
    _, gradient = gradient_of(DOWN)
    right = torch.linalg.svd(gradient).Vh[:4].T
    found = directions(attached(support="gradient"), DOWN)
    assert (gradient @ found).norm() > 0.97 * (gradient @ right).norm()
    model, read = make_model(), []
    model.get_submodule(DOWN).register_forward_pre_hook(lambda _, given: read.append(given[0].flatten(0, 1)))
    with torch.no_grad():
        for batch in EVIDENCE.batches():
            model(batch["input_ids"])
    heard = torch.cat(read)
    right = torch.linalg.svd(heard).Vh[:4].T
    assert (heard @ directions(attached(support="activation"), DOWN)).norm() > 0.97 * (heard @ right).norm()


def test_only_random_directions_are_the_seeds_affair() -> None:
    one, same, other = (directions(attached(seed, support="random")) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(*(directions(attached(seed)) for seed in (0, 1))), "what rows tell follows from the rows"


@pytest.mark.parametrize("support", SUPPORTS)
def test_no_random_state_is_touched(support: str) -> None:
    model = make_model()
    before = torch.get_rng_state()
    attached(model=model, support=support)
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_are_read_only_where_they_tell_something() -> None:
    assert [LOFT(support=kind).looks_at() for kind in SUPPORTS] == [[""]] * 3 + [[]] * 4
    assert "64 rows 4 times" in LOFT().costs() and LOFT(support="random").costs() == "" and "exact" in LOFT(support="minor").costs()


def test_a_rank_that_is_too_high_and_a_quantised_matrix_are_refused_with_a_remedy() -> None:
    with pytest.raises(WorkbenchError, match="Set rank to 16 or less"):
        LOFT(rank=17).cost(make_model())
    assert LOFT(rank=32, targets="mlp").cost(make_model()).trained == 3 * 3 * 32 * 31 // 2
    model = make_model()
    rounded = torch.nn.Parameter(torch.zeros(32, 32, dtype=torch.uint8), requires_grad=False)
    model.get_submodule("model.layers.0.self_attn").q_proj.weight = rounded
    with pytest.raises(WorkbenchError, match="before it was quantised"):
        LOFT(support="random").attach(model, 0, {})


def test_rows_without_finite_gradients_are_refused_with_a_remedy() -> None:
    model = make_model()
    torch.nn.init.constant_(model.get_parameter(f"{DOWN}.weight"), torch.inf)
    with pytest.raises(WorkbenchError, match="Choose a wider precision"):
        attached(model=model)
