"""PRT's training: a constant reward is the base, log(π₁/π₀) is π₁, it begins as the base squared; the decoder serves what is trained."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.train import Run, begin
from workbench.materials.models import label_table
from workbench.materials.world.skills import World
from workbench.methods.contracts import Voice
from workbench.methods.decoders.portable_reward import PortableReward as Served
from workbench.methods.losses.cross_entropy import CrossEntropy
from workbench.methods.losses.portable_reward import PortableReward

LABELS = torch.tensor([0, 3, 5, 10])


def table(seed: int) -> Tensor:
    return torch.randn(4, 11, generator=torch.Generator().manual_seed(seed), dtype=torch.double).mul(2).log_softmax(-1)


@dataclass(frozen=True)
class Read:
    """As the engine has it."""

    table: Tensor
    logp: Tensor


class Says(Voice):
    def __init__(self, logits: Tensor):
        self.said = logits

    def logits(self, tokens: object) -> Tensor:
        return self.said


def test_a_constant_reward_leaves_the_base_as_it_is() -> None:
    base, reward = table(0), torch.full((4, 11), 3.0).double().log_softmax(-1)
    assert torch.allclose(PortableReward().spoken(reward, base), base)


def test_a_reward_that_is_the_ratio_of_two_models_gives_the_tuned_one() -> None:
    base, tuned = table(0), table(1)
    assert torch.allclose(PortableReward().spoken((tuned - base).log_softmax(-1), base), tuned)


def test_it_begins_as_the_base_squared_and_as_a_difference_as_the_base() -> None:
    base = table(0)
    squared = base.exp().square()
    assert torch.allclose(PortableReward().spoken(base, base).exp(), squared / squared.sum(-1, keepdim=True))
    assert PortableReward(reward="difference").spoken(base, base) is base
    likely = torch.tensor([[0.6, 0.3, 0.1]]).log()
    first = PortableReward().spoken(likely, likely)
    assert first[0, 0] > likely[0, 0] and first[0, 2] < likely[0, 2], "sharper"


def test_what_is_learnt_is_the_cross_entropy_of_both_together() -> None:
    base = table(0)
    logits = table(1).requires_grad_()
    plain = Read(logits.log_softmax(-1), logits.log_softmax(-1).gather(1, LABELS[:, None])[:, 0])
    read = PortableReward().read(plain, base, LABELS)
    expected = torch.nn.functional.cross_entropy(base + logits, LABELS, reduction="none")
    assert torch.allclose(-read.logp, expected)
    (gradient,) = torch.autograd.grad(read.logp.sum(), logits)
    onto = torch.nn.functional.one_hot(LABELS, 11) - (base + logits.detach()).softmax(-1)
    assert torch.allclose(gradient, onto.double())


def test_every_other_loss_and_a_difference_learn_from_the_model_alone() -> None:
    plain = Read(table(1), table(1)[:, 0])
    for loss in (CrossEntropy(anchor=0.5), PortableReward(reward="difference", entropy=0.1)):
        assert loss.read(plain, table(0), LABELS) is plain
    assert PortableReward().read(plain, None, LABELS) is plain


@pytest.mark.parametrize("reward", ["logits", "difference"])
def test_the_entropy_is_the_reward_s_own(reward: str) -> None:
    base, own = table(0), table(1)
    loss = PortableReward(reward=reward, entropy=0.3)
    given = own if reward == "logits" else (own - base).log_softmax(-1)  # what r is, up to a constant
    expected = 0.3 * (given.exp() * given).sum(-1)
    assert torch.allclose(loss.penalty(loss.spoken(own, base), base, LABELS), expected)
    flat = PortableReward(entropy=0.3)
    assert torch.allclose(flat.penalty(base, base, LABELS), torch.full((4,), -0.3 * torch.tensor(11.0).log()).double())


def test_the_anchor_holds_both_together_to_the_base() -> None:
    base, own = table(0), table(1)
    loss = PortableReward(anchor=0.5)
    both = loss.spoken(own, base)
    assert torch.allclose(loss.penalty(both, base, LABELS), 0.5 * (base.exp() * (base - both)).sum(-1))


def test_the_decoder_serves_what_was_trained() -> None:
    base, own = table(0), table(1)
    served = Served().begin(Says(own[2] + 4), Says(base[2] - 1)).logits([1])  # type: ignore[arg-type]
    assert torch.allclose(served.log_softmax(-1), PortableReward().spoken(own, base)[2])


def test_it_asks_for_the_base_only_where_it_needs_it() -> None:
    assert PortableReward().needs_base() and "of the base" in PortableReward().costs()
    plain = PortableReward(reward="difference")
    assert not plain.needs_base() and plain.costs() == ""
    assert PortableReward(reward="difference", entropy=0.1).needs_base()
    assert PortableReward(reward="difference", anchor=0.1).needs_base()


# In a run.


@pytest.fixture
def begun(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> Callable[..., Run]:
    """A function that begins a run with a loss of its own."""
    found = World().rows("tale", 12, seed=0, held_out=False)
    (tmp_path / "tale.jsonl").write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in found))
    told = {"model": str(pico_folder), "data": {"path": str(tmp_path / "tale.jsonl"), "max_length": 64}, "batch_size": 4, "steps": 6}

    def begin_with(**loss: object) -> Run:
        spec = TrainSpec(**told, loss=loss, adapter={"method": "lora", "rank": 4}, update={"method": "adamw", "lr": 1e-2})
        return drain(begin(spec, workspace.run("0001"), workspace))

    return begin_with


def test_a_run_begins_above_the_base_and_is_told_of_both_together(begun: Callable[..., Run]) -> None:
    job = begun(method="portable_reward")
    window = job.batches.window(1)
    with torch.no_grad():
        tables = [label_table(job.attachment.model, batch) for batch in window]
    labels = [batch["labels"][:, 1:][batch["labels"][:, 1:] != -100] for batch in window]
    both = [-(2 * table).log_softmax(-1).gather(1, own[:, None]) for table, own in zip(tables, labels, strict=True)]
    expected = float(torch.cat(both).mean())
    assert job.objective.losses(window, 1, 0.0)["loss"] == pytest.approx(expected, rel=1e-5)
    assert job.objective.mean_loss(window) == pytest.approx(expected, rel=1e-5)
    for _ in range(3):
        job.advance()
    assert job.objective.mean_loss(window) < expected
    with torch.no_grad(), job.attachment.base():
        assert torch.allclose(label_table(job.attachment.model, window[0]), tables[0], atol=1e-6), "the base stays as it was"


def test_as_a_difference_it_trains_as_cross_entropy_does(begun: Callable[..., Run]) -> None:
    curves = list[list[float]]()
    for loss in ({"method": "cross_entropy"}, {"method": "portable_reward", "reward": "difference"}, {"method": "portable_reward"}):
        job = begun(**loss)
        curves.append([job.advance()[0].values["loss"] for _ in range(3)])
    assert curves[0] == curves[1] != curves[2]
