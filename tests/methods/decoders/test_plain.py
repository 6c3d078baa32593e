"""Plain decoding passes the model's logits on untouched."""

import torch

from workbench.methods.contracts import Voice
from workbench.methods.decoders.plain import Plain


class Echo(Voice):
    def logits(self, tokens: list[int]) -> torch.Tensor:
        return torch.tensor(tokens, dtype=torch.float32)


def test_it_is_the_model_itself() -> None:
    own = Echo()
    assert Plain().begin(own, Echo()) is own
