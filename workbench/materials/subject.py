"""What lies on the table when models are inspected: the base, the models that were tuned from it, and rows to show them.

Weights come tensor by tensor, models when they are asked for: the base stays, of the tuned ones the last that was asked for, so two are
in memory at most. All numbers are float32. What it is not: which rows (`jobs/inspect.py`), or what is made of them
(`methods/inspections/`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.materials.evidence import Evidence
from workbench.materials.family import Member, differences, same_head
from workbench.materials.folded import any_member
from workbench.materials.models import ModelRef, layer_of, load, tokenizer
from workbench.materials.precision import place
from workbench.materials.rows import Example
from workbench.materials.templates import Encoded


@dataclass(frozen=True)
class Weight:
    """One tensor of all models, whole: `part` is its module's last name (`q_proj`), `layer` its block or None."""

    name: str
    layer: int | None
    part: str
    base: Tensor
    tuned: list[Tensor]


class Subject:
    """A base and M ≥ 1 models tuned from it; `labels` name the tuned ones, each differently.

    rows, examples: by the names that the inspection looks at, the same rows as tokens and as they were written.
    """

    def __init__(
        self, base: ModelRef, tuned: Sequence[ModelRef], rows: Mapping[str, Sequence[Encoded]],
        examples: Mapping[str, Sequence[Example]], seed: int = 0,
    ):  # fmt: skip
        self.refs, self.rows, self.examples, self.seed = [base, *tuned], rows, examples, seed
        labels = [ref.label for ref in tuned]
        self.labels = [f"{ref.label} ({ref.reference})" if labels.count(ref.label) > 1 else ref.label for ref in tuned]
        self.device = place()[0]
        self.folder: Path | None = None  # where an inspection may keep what it makes; without one nothing is kept
        self._last: tuple[int, PreTrainedModel] | None = None

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return tokenizer(self.refs[0])

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.rows, self.tokenizer.pad_token_id or 0, self.device)

    @cached_property
    def members(self) -> list[Member]:
        """The models as tensors, all with the same names and shapes.

        Raises:
            WorkbenchError: a model cannot be read as tensors, or is not of the base's shape.
        """
        opened = same_head([any_member(ref) for ref in self.refs])
        unlike = [sentence for other in opened[1:] for sentence in differences(opened[0], other)]
        if unlike:
            raise WorkbenchError(" ".join(["Their weights cannot be held against each other.", *unlike]))
        return opened

    @property
    def names(self) -> list[str]:
        """Of all tensors that `weights` gives, in the order of the base's file."""
        return self.members[0].merged_names()

    def weights(self, matrices: bool = False) -> Iterator[Weight]:
        """Every tensor, or with `matrices` those of two dimensions that lie in a block."""
        for name in self.names:
            layer, shape = layer_of(name), self.members[0].shape(name)
            if not matrices or (layer is not None and len(shape) == 2):
                own, *others = (member.rows(name, 0, shape[0] if shape else 1) for member in self.members)
                yield Weight(name, layer, name.split(".")[-2] if "." in name else name, own, others)

    @cached_property
    def base(self) -> PreTrainedModel:
        """The base in eval mode, no parameter of it with a gradient."""
        return self._loaded(0)

    def tuned(self, number: int) -> PreTrainedModel:
        """The tuned model of that number from 0, its adapter folded in or beside it; the one before it is let go.

        Raises:
            WorkbenchError: it has another vocabulary than the base, or cannot be loaded.
        """
        if self._last is None or self._last[0] != number:
            self._last = None  # let the old one go before the new one comes
            model, words = self._loaded(number + 1), self.base.config.vocab_size
            if model.config.vocab_size != words:
                raise WorkbenchError(
                    f"{self.labels[number]} has a vocabulary of {model.config.vocab_size} tokens and the base one of {words}: what they "
                    "say cannot be held against each other. Inspect models of one base."
                )
            self._last = number, model
        return self._last[1]

    def _loaded(self, place_in_line: int) -> PreTrainedModel:
        model = load(self.refs[place_in_line], self.device, torch.float32)
        return model.requires_grad_(False)
