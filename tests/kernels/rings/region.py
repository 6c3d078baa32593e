"""Training a part of a weight by the kernels, beside the same by torch: values, moments, the weight, and what a run goes on from."""

from collections import Counter

import pytest
import torch
from ring import DEVICE, DTYPES, draw, far
from torch import Tensor, nn
from workbench_kernels import masked_adamw, road

from workbench.materials import optimizers
from workbench.materials.region import Part
from workbench.materials.regions import Blocks, Columns, Elements, Region, Rows

REGIONS = [
    Rows(torch.tensor([0, 5])),
    Columns(torch.tensor([1, 4, 7])),
    Elements(torch.tensor([0, 17, 47])),
    Blocks(torch.tensor([0, 3, 5]), 2),
]
every_region = pytest.mark.parametrize("region", REGIONS, ids=lambda region: type(region).__name__)


class Trained:
    """A weight of which a part moves, and its optimizer as an update has it."""

    def __init__(self, region: Region, dtype: torch.dtype = torch.float32):
        self.part = Part(nn.Parameter(draw(6, 8, dtype=dtype)), region)
        matrices, vectors = optimizers.by_shape([{"params": [self.part.values]}], 3e-3, 0.1)
        self.optimizer = torch.optim.AdamW(matrices + vectors, betas=(0.9, 0.99), fused=True)
        self.done = 0

    def on(self, steps: int, way: road.Road = "triton") -> "Trained":
        with road.only(way):
            for _ in range(steps):
                self.done += 1
                for turn in range(2):  # gradients add up
                    (self.part.weight * draw(6, 8, dtype=self.part.weight.dtype, seed=10 * self.done + turn)).sum().backward()
                optimizers.clip([self.optimizer], 1.0)
                optimizers.step(self.optimizer, 1 / self.done)
                self.part.after_step()
        return self

    def numbers(self) -> dict[str, Tensor]:
        held = self.optimizer.state[self.part.values]
        return {"values": self.part.values.detach(), "weight": self.part.weight.detach(), **held}

    def kept(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What a checkpoint holds."""
        part, moments = self.part.state(), optimizers.state(self.optimizer)
        return {name: tensor.clone() for name, tensor in part.items()}, {name: tensor.clone() for name, tensor in moments.items()}

    def load(self, part: dict[str, Tensor], moments: dict[str, Tensor], done: int) -> "Trained":
        self.part.load_state(part)
        optimizers.load_state(self.optimizer, moments)
        self.done = done
        return self


def same(one: Trained, other: Trained) -> bool:
    found, expected = one.numbers(), other.numbers()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@every_region
def test_it_is_what_torch_computes_and_nothing_else_moves(region: Region, dtype: torch.dtype) -> None:
    found, expected = Trained(region, dtype).on(5), Trained(region, dtype).on(5, "reference")
    mine, theirs = found.numbers(), expected.numbers()
    assert mine.keys() == theirs.keys() and mine["step"] == 5
    for name, one in mine.items():
        other = theirs[name]
        assert (one.dtype, one.shape, one.device) == (other.dtype, other.shape, other.device), name
        assert far(one, other) <= (5e-3 if name == "weight" and dtype == torch.bfloat16 else 2e-6), name
    still = torch.ones(48, dtype=torch.bool, device=DEVICE)
    still[found.part.flat()] = False
    assert torch.equal(mine["weight"].flatten()[still], draw(6, 8, dtype=dtype).flatten()[still])
    assert mine["weight"].flatten()[found.part.flat()].ne(draw(6, 8, dtype=dtype).flatten()[found.part.flat()]).any()


def test_each_kernel_runs_once_for_a_part_and_the_weight_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()
    for name in ("_gather", "_scatter"):
        launch = vars(masked_adamw)[name]
        monkeypatch.setattr(masked_adamw, name, lambda *given, name=name, launch=launch: calls.update([name]) or launch(*given))
    trained = Trained(REGIONS[0])
    monkeypatch.setattr(Rows, "scatter", lambda *given: pytest.fail("put into the weight a second time"))
    trained.on(3)
    trained.part.settle()
    assert calls == {"_gather": 6, "_scatter": 3}


@every_region
def test_a_checkpoint_goes_on_to_the_bit_and_by_either_road(region: Region) -> None:
    whole, half = Trained(region).on(5), Trained(region).on(2)
    again = Trained(region).load(*half.kept(), half.done).on(3)
    assert same(again, whole)
    by_torch, by_kernels = Trained(region).load(*half.kept(), 2).on(3, "reference"), Trained(region).on(2, "reference")
    by_kernels = Trained(region).load(*by_kernels.kept(), 2).on(3)
    for other in (by_torch, by_kernels):
        assert all(far(one, whole.numbers()[name]) <= 2e-6 for name, one in other.numbers().items())


def test_a_checkpoint_of_another_part_is_gone_on_from() -> None:
    """By a process that had stepped the part it began with."""
    whole, again = (Trained(Elements(torch.arange(0, 20))).on(1) for _ in range(2))
    optimizers.carry(whole.optimizer, whole.part.values, whole.part.move(Elements(torch.arange(10, 30))))
    again.load(*whole.on(1).kept(), 2).on(1)
    assert same(again, whole.on(1))


def test_a_part_without_a_gradient_stays_where_it_is() -> None:
    trained = Trained(REGIONS[0])
    before = trained.part.weight.detach().clone()
    optimizers.step(trained.optimizer, 1.0)
    assert torch.equal(trained.part.weight.detach(), before)


def test_roads_may_change_between_two_steps() -> None:
    """The number of a step is torch's count, whoever made the steps before."""
    turns = Trained(REGIONS[2])
    for way in ("triton", "reference", "triton", "triton", "reference"):
        turns.on(1, way)
    expected = Trained(REGIONS[2]).on(5, "reference").numbers()
    assert all(far(one, expected[name]) <= 2e-6 for name, one in turns.numbers().items())


def test_the_model_takes_over_what_a_guard_left_of_a_step() -> None:
    trained = Trained(REGIONS[1]).on(1)
    with torch.no_grad():
        trained.part.values.copy_(0.5 * trained.part.values)
    trained.part.settle()
    assert torch.equal(trained.part.region.gather(trained.part.weight.detach()), trained.part.values.detach())


def test_another_part_moves_after_a_redraw() -> None:
    found, expected = Trained(Elements(torch.arange(0, 20))), Trained(Elements(torch.arange(0, 20)))
    for trained, way in ((found, "triton"), (expected, "reference")):
        trained.on(2, way)
        optimizers.carry(trained.optimizer, trained.part.values, trained.part.move(Elements(torch.arange(10, 30))))
        trained.on(2, way)
    assert all(far(one, expected.numbers()[name]) <= 2e-6 for name, one in found.numbers().items())
    assert torch.equal(found.part.delta()[0].cpu(), torch.arange(30))
