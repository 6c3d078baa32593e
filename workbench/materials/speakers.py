"""Models that speak token by token, each with the cache of what it has heard: alone, or as one of several in a choir.

What it is not: several that are read in one batch (`chorus.py`), or a choice of tokens (`jobs/compare.py`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.materials.choir import Choir, Part
from workbench.materials.differing import parameters, written_out
from workbench.materials.firing import neurons_of
from workbench.materials.models import blocks
from workbench.materials.roomy import RoomyCache
from workbench.materials.voice import Blend, Speaker, Voice

HALF = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer puts for a letter of which the last bytes are missing
CACHE = "past_key_values"
WINDOW = 16  # tokens


class ModelVoice(Speaker):
    """A model with the cache of what it has heard so far."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model = model
        self.tokenizer = tokenizer
        self.heard: list[int] = []
        self.cache = RoomyCache()
        self.last = torch.empty(0)

    def logits(self, tokens: Sequence[int]) -> Tensor:
        if self.heard != list(tokens[: len(self.heard)]):
            self.forget(tokens)
        new = list(tokens[len(self.heard) :])
        if new:
            self.stand_up()
            ids = torch.tensor([new], device=self.model.device)
            self.last = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits[0, -1].float()
            self.heard = list(tokens)
        return self.last

    def stand_up(self) -> None:
        """Called before the model reads: from now on it is this voice's."""

    def forget(self, tokens: Sequence[int]) -> None:
        """Remember only what the tokens have in common with what was heard, their last one aside, which is to be read now."""
        common = next((place for place, (old, new) in enumerate(zip(self.heard, tokens, strict=False)) if old != new), len(tokens))
        common = max(0, min(common, len(tokens) - 1))
        if common < len(self.heard):
            self.cache.crop(common - len(self.heard))
            self.heard = self.heard[:common]

    def anew(self) -> "ModelVoice":
        return ModelVoice(self.model, self.tokenizer)

    def texts(self, tokens: Sequence[int]) -> list[str]:
        return texts(self.tokenizer, tokens)

    def end(self) -> int | None:
        return self.tokenizer.eos_token_id

    def reads(self) -> float:
        return self.model.config.to_dict().get("max_position_embeddings") or math.inf

    def blended(self, other: Speaker, blend: Blend) -> Voice:
        assert isinstance(other, ModelVoice)
        _check_alike(self.model, other.model)
        return Blended(self.anew(), other.anew(), blend)

    def turned(self, neurons: Mapping[int, Sequence[int]], factor: float) -> Voice:
        """As in `Speaker`.

        Raises:
            WorkbenchError: it has no such neurons.
        """
        return Turned(self.anew(), _gains(self.model, neurons, factor))

    def weights(self) -> Mapping[str, Tensor]:
        """By every name that each has."""
        return parameters(self.model)

    def held(self) -> dict[str, int]:
        """By every name a number, the same for two names of one tensor."""
        return {name: tensor.data_ptr() for name, tensor in parameters(self.model).items()}

    @contextmanager
    def lent(self, other: Speaker, named: Callable[[str], bool]) -> Iterator[None]:
        """As in `Speaker`. A tensor that has two names, as a head that is tied to the embeddings, is lent if one of them is named.

        Raises:
            WorkbenchError: the two models have other tensors than one another, or none is named.
        """
        assert isinstance(other, ModelVoice)
        _check_alike(self.model, other.model)
        ours, theirs = dict(self.model.named_parameters(remove_duplicate=False)), other.weights()
        chosen = [(own, own.data, theirs[name]) for name, own in ours.items() if named(name)]
        _check_some(chosen)
        for own, _, lent in chosen:  # what they point at, and not the numbers: a swap costs nothing
            own.data = lent
        try:
            yield
        finally:
            for own, before, _ in chosen:
                own.data = before


class Singer(ModelVoice):
    """A model that is told as a part of a choir."""

    def __init__(self, choir: Choir, part: Part, tokenizer: PreTrainedTokenizerBase):
        super().__init__(choir.model, tokenizer)
        self.choir, self.part = choir, part
        self.seating = choir.seats([part])
        self.told: tuple[list[int], Tensor] = ([], self.last)  # what was read for it in a batch, and what comes after

    def logits(self, tokens: Sequence[int]) -> Tensor:
        heard, said = self.told
        return said if heard and heard == list(tokens) else super().logits(tokens)

    def stand_up(self) -> None:
        self.choir.seating = self.seating

    def anew(self) -> "Singer":
        return Singer(self.choir, self.part, self.tokenizer)

    def weights(self) -> Mapping[str, Tensor]:
        return {name: written_out(self.model, name, self.part.get(name)) for name in parameters(self.model)}

    def held(self) -> dict[str, int]:
        return super().held() | {name: id(change) for name, change in self.part.items()}

    @contextmanager
    def lent(self, other: Speaker, named: Callable[[str], bool]) -> Iterator[None]:
        """As in `ModelVoice`; it is another part for a while."""
        assert isinstance(other, ModelVoice)
        _check_alike(self.model, other.model)
        groups, theirs = dict[tuple[int, int], list[str]](), other.held()
        for name, own in self.held().items():
            groups.setdefault((own, theirs[name]), []).append(name)
        chosen = [name for names in groups.values() if any(map(named, names)) for name in names]
        _check_some(chosen)
        same = isinstance(other, Singer) and other.choir is self.choir
        lent = {name: other.part[name] for name in chosen if name in other.part} if same else {}
        before = self.part, self.seating
        self.part = {name: change for name, change in self.part.items() if name not in chosen} | lent
        self.seating = self.choir.seats([self.part])
        try:
            with nullcontext() if same else super().lent(other, {*chosen}.__contains__):
                yield
        finally:
            self.part, self.seating = before


class Blended(Voice):
    """Two models block by block. Each has keys and values of its own for the hidden states that both read."""

    def __init__(self, own: ModelVoice, other: ModelVoice, blend: Blend):
        self.own, self.other, self.blend = own, other, blend

    def logits(self, tokens: Sequence[int]) -> Tensor:
        if self.own.heard != list(tokens[: len(self.own.heard)]):
            self.own, self.other = self.own.anew(), self.other.anew()
        pairs = zip(blocks(self.own.model), blocks(self.other.model), strict=True)
        handles = [block.register_forward_hook(self._beside(other), with_kwargs=True) for block, other in pairs]
        try:
            return self.own.logits(tokens)
        finally:
            for handle in handles:
                handle.remove()

    def _beside(self, block: nn.Module) -> Callable[..., Any]:
        def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
            if CACHE not in named:
                raise WorkbenchError(
                    f"The blocks of {type(self.own.model).__name__} are not told of their cache by name, so two models cannot be read "
                    "block by block. Choose another decoder."
                )
            self.other.stand_up()
            said = block.forward(*given, **(named | {CACHE: self.other.cache}))
            self.own.stand_up()
            if isinstance(out, Tensor):
                return self.blend(out, said)
            return (self.blend(out[0], said[0]), *out[1:])

        return hook


class Turned(Voice):
    """A model of which some modules read their inputs times `gains`, by their names, while it speaks here."""

    def __init__(self, own: ModelVoice, gains: Mapping[str, Tensor]):
        self.own, self.gains = own, gains

    def logits(self, tokens: Sequence[int]) -> Tensor:
        modules = ((self.own.model.get_submodule(name), gain) for name, gain in self.gains.items())
        handles = [module.register_forward_pre_hook(_times(gain)) for module, gain in modules]
        try:
            return self.own.logits(tokens)
        finally:
            for handle in handles:
                handle.remove()


def _times(gain: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda module, given: (given[0] * gain, *given[1:])


def _gains(model: PreTrainedModel, neurons: Mapping[int, Sequence[int]], factor: float) -> dict[str, Tensor]:
    """By the name of the matrix at an MLP's end what each number that it reads is multiplied by."""
    every, found = neurons_of(model, "A model", "another decoder"), dict[str, Tensor]()
    for layer, places in neurons.items():
        if layer >= len(every) or max(places, default=0) >= every[layer].neurons:
            sizes = f"{len(every)} layers of {every[0].neurons} neurons"
            raise WorkbenchError(
                f"There is no neuron {layer}:{max(places)} in a model with {sizes}, counted from 0. Name those that are there."
            )
        weight = model.get_parameter(f"{every[layer].down}.weight")
        found[every[layer].down] = weight.new_ones(every[layer].neurons).index_fill(0, torch.tensor(places, device=weight.device), factor)
    return found


class Spelling:
    """Tokens as text, where more and more come to those that are there: what each adds to the text, which they join to.

    Only the last tokens are turned into text again when one comes. Where the parts then do not join to the text, as with a tokenizer that
    tidies up spaces, all of them are, for good.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.window: float = WINDOW
        self.parts: list[str] = []  # the first half of a letter of two tokens adds nothing
        self.first = 0  # token from which on they are turned into text
        self.sure = self.whole = ""  # of those

    def of(self, tokens: Sequence[int]) -> list[str]:
        """`tokens` begin with those of the last time. As long as half a letter is the end of them, the last one shows it."""
        old = len(self.parts)
        for end in range(old, len(tokens)):
            self.whole, before = self.tokenizer.decode(tokens[self.first : end + 1]), self.sure
            self.sure = self.whole.rstrip(HALF)
            self.parts.append(self.sure[len(before) :])
            if self.sure == self.whole and end + 1 - self.first >= self.window:
                self.first = end + 1 - WINDOW // 2
                self.sure = self.whole = self.tokenizer.decode(tokens[self.first : end + 1])
        said = [*self.parts[:-1], *(part + self.whole[len(self.sure) :] for part in self.parts[-1:])]
        if self.first and len(tokens) > old and "".join(said) != self.tokenizer.decode(tokens):
            self.window, self.parts, self.first, self.sure, self.whole = math.inf, [], 0, "", ""
            return self.of(tokens)
        return said


def texts(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[str]:
    """What each token adds to the decoded text, which they join to; the first half of a letter of two tokens adds nothing."""
    return Spelling(tokenizer).of(tokens)


def _check_some(chosen: Sequence[Any]) -> None:
    if not chosen:
        raise WorkbenchError("None of the model's weights is among those that are to be lent. Choose other parts or layers.")


def _check_alike(one: PreTrainedModel, other: PreTrainedModel) -> None:
    shapes, others = ({name: parameter.shape for name, parameter in model.named_parameters()} for model in (one, other))
    unlike = sorted(name for name in {*shapes, *others} if shapes.get(name) != others.get(name))
    if unlike:
        raise WorkbenchError(
            f"Weights can be lent only between models of one shape, and {len(unlike)} of these differ, first {unlike[0]}. "
            "Compare models of one base, or choose another decoder."
        )
