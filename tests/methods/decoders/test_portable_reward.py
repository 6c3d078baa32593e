"""A portable reward: constant, it changes nothing; as log π₁ − log π₀ it gives π₁, and beside another base it moves that one."""

import pytest
import torch

from workbench.core.errors import WorkbenchError
from workbench.methods.contracts import Voice
from workbench.methods.decoders.portable_reward import PortableReward


class Says(Voice):
    def __init__(self, *logits: float):
        self.said = torch.tensor(logits)

    def logits(self, tokens: object) -> torch.Tensor:
        return self.said


def of(reward: torch.Tensor, base: torch.Tensor, **knobs: float) -> list[float]:
    return PortableReward(**knobs).begin(Says(*reward.tolist()), Says(*base.tolist())).logits([1]).softmax(-1).tolist()  # type: ignore[arg-type]


def test_a_constant_reward_leaves_the_base_as_it_is() -> None:
    base = torch.tensor([0.2, 0.5, 0.3])
    assert of(torch.full((3,), 4.0), base.log() + 7) == pytest.approx(base.tolist(), abs=1e-6)


def test_a_reward_that_is_the_ratio_of_two_models_gives_the_tuned_one() -> None:
    base, tuned, newer = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.1, 0.1, 0.8])
    reward = tuned.log() - base.log()
    assert of(reward, base.log()) == pytest.approx(tuned.tolist(), abs=1e-6)
    moved = newer * tuned / base
    assert of(reward, newer.log()) == pytest.approx((moved / moved.sum()).tolist(), abs=1e-6)
    softer = newer * (tuned / base).sqrt()
    assert of(reward, newer.log(), scale=2) == pytest.approx((softer / softer.sum()).tolist(), abs=1e-6)


def test_without_the_base_it_is_the_model_and_the_base_speaks_as_it_is() -> None:
    reward, ruled_out = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.0, -torch.inf, 0.0])
    assert of(reward.log(), ruled_out, base_share=0) == pytest.approx(reward.tolist(), abs=1e-6)
    assert of(reward.log(), ruled_out)[1] == 0
    base = Says(1, 2)
    assert PortableReward().begin(base, base) is base  # type: ignore[arg-type]


def test_another_vocabulary_is_said() -> None:
    reward, base = Says(1, 2, 3), Says(1, 2)
    with pytest.raises(WorkbenchError, match=r"over 3 tokens cannot steer a base with a vocabulary of 2\. Choose a base"):
        PortableReward().begin(reward, base).logits([1])  # type: ignore[arg-type]
