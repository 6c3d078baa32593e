"""Several models answer one prompt side by side: one token each in turn, drawn with the same random numbers.

The first model is the base the others are held against: beside every token's log-probability stands the one the base
would have given it at that place, which is what the page tints tokens by. Knows nothing of panes or colours.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.asking import CompareSpec
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Noted, Progress, Said, Started
from workbench.core.workspace import Workspace
from workbench.jobs.machine import share_cores
from workbench.materials.models import load, place, resolve
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.templates import prompt_ids
from workbench.methods.contracts import Speaker, Voice

REFRESH = 0.1  # seconds between two glances at an answer that grows
HALF = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer puts for a letter of which the last bytes are missing


class ModelVoice(Speaker):
    """A model with the cache of what it has heard so far."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model = model
        self.tokenizer = tokenizer
        self.heard: list[int] = []
        self.cache = DynamicCache()
        self.last = torch.empty(0)

    def logits(self, tokens: Sequence[int]) -> Tensor:
        new = list(tokens[len(self.heard) :])
        if self.heard != list(tokens[: len(self.heard)]):
            self.cache, new = DynamicCache(), list(tokens)
        if new:
            ids = torch.tensor([new], device=self.model.device)
            self.last = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits[0, -1].float()
            self.heard = list(tokens)
        return self.last

    def anew(self) -> "ModelVoice":
        return ModelVoice(self.model, self.tokenizer)

    def texts(self, tokens: Sequence[int]) -> list[str]:
        return texts(self.tokenizer, tokens)

    @contextmanager
    def lent(self, other: Speaker, named: Callable[[str], bool]) -> Iterator[None]:
        """As in `Speaker`. A tensor that has two names, as a head that is tied to the embeddings, is lent if one of them is named.

        Raises:
            WorkbenchError: the two models have other tensors than one another, or none is named.
        """
        assert isinstance(other, ModelVoice)
        _check_alike(self.model, other.model)
        ours, theirs = (dict(model.named_parameters(remove_duplicate=False)) for model in (self.model, other.model))
        chosen = [(own, own.data, theirs[name].data) for name, own in ours.items() if named(name)]
        if not chosen:
            raise WorkbenchError("None of the model's weights is among those that are to be lent. Choose other parts or layers.")
        for own, _, lent in chosen:  # what they point at, and not the numbers: a swap costs nothing
            own.data = lent
        try:
            yield
        finally:
            for own, before, _ in chosen:
                own.data = before


@dataclass
class Pane:
    """One model's answer as it grows."""

    reference: str
    tokenizer: PreTrainedTokenizerBase
    voice: Voice
    base: Voice
    says: Voice  # whose logits the tokens are drawn from
    prompt: list[int]
    limit: int
    answer: list[int] = field(default_factory=list)
    logps: list[tuple[float, float]] = field(default_factory=list)
    ended: bool = False
    shown: float = 0.0

    def speak(self, spec: CompareSpec, luck: float) -> None:
        """Add one token, drawn with the number `luck` in [0, 1)."""
        tokens = [*self.prompt, *self.answer]
        token = draw(self.says.logits(tokens), spec.temperature, luck)
        own, other = (voice.logits(tokens).log_softmax(-1)[token].item() for voice in (self.voice, self.base))
        self.ended = token == self.tokenizer.eos_token_id
        if not self.ended:
            self.answer.append(token)
            self.logps.append((own, other))
            self.ended = len(self.answer) >= self.limit

    def said(self, prompt: str) -> Said:
        """The answer so far; what its tokens add to the text joins to it."""
        parts = texts(self.tokenizer, self.answer)
        tokens = [[text, round(own, 5), round(other, 5)] for text, (own, other) in zip(parts, self.logps, strict=True)]
        return Said(len(self.answer), self.reference, prompt, self.tokenizer.decode(self.answer), tokens, self.ended)


@torch.no_grad()
def compare(spec: CompareSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """All models answer the prompt; partial answers come at most ten times a second for each, whole ones at the end."""
    panes = yield from _panes(spec, workspace)
    yield Started(spec.max_tokens, {"models": spec.models})
    luck = torch.rand(max(pane.limit for pane in panes), generator=torch.Generator().manual_seed(spec.seed)).tolist()
    for turn in range(len(luck)):
        for pane in panes:
            if pane.ended:
                continue
            pane.speak(spec, luck[turn])
            if pane.ended or time.monotonic() - pane.shown > REFRESH:
                pane.shown = time.monotonic()
                yield pane.said(spec.prompt)
        if all(pane.ended for pane in panes):
            break
        yield Progress(turn + 1, spec.max_tokens, "tokens")
    yield Finished("finished", f"{len(panes)} answers.")


def texts(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> list[str]:
    """What each token adds to the decoded text, which they join to; the first half of a letter of two tokens adds nothing."""
    ends = ["", *(tokenizer.decode(tokens[: end + 1]) for end in range(len(tokens)))]
    sure = [*(end.rstrip(HALF) for end in ends[:-1]), ends[-1]]
    return [after[len(before) :] for before, after in pairwise(sure)]


def draw(logits: Tensor, temperature: float, luck: float) -> int:
    """The token at `luck` of the cumulative distribution, likeliest first; at temperature 0 the likeliest."""
    if temperature == 0:
        return int(logits.argmax())
    ordered = (logits / temperature).softmax(-1).sort(descending=True)
    place_in_line = int((ordered.values.cumsum(-1) <= luck * ordered.values.sum()).sum())
    return int(ordered.indices[min(place_in_line, len(logits) - 1)])


def _panes(spec: CompareSpec, workspace: Workspace) -> Iterator[Event]:
    """Load each model once; every pane but the first listens to the base with a cache of its own."""
    device, dtype = place()
    refs = [resolve(reference, workspace) for reference in spec.models]
    tokenizer = load_tokenizer(refs[0])
    messages = [{"role": "system", "content": spec.system}] if spec.system else []
    prompt = prompt_ids(tokenizer, [*messages, {"role": "user", "content": spec.prompt}])
    panes: list[Pane] = []
    base: PreTrainedModel | None = None
    for index, ref in enumerate(refs):
        yield Progress(index, len(refs), f"loading {ref.label}")
        model = load(ref, device, dtype)
        share_cores(model)
        base = base or model
        _same_vocabulary(base, model, ref.label)
        voice = ModelVoice(model, tokenizer)
        beside = voice if model is base else ModelVoice(base, tokenizer)
        limit = room(model, len(prompt), spec.max_tokens, ref.label)
        if limit < spec.max_tokens:
            yield Noted(f"{ref.label} has room for {limit} of the {spec.max_tokens} tokens asked for.", "watch")
        panes.append(Pane(ref.reference, tokenizer, voice, beside, spec.decoder.begin(voice, beside), prompt, limit))
    return panes


def room(model: PreTrainedModel, prompt: int, wanted: int, label: str) -> int:
    """How many tokens can follow the prompt before the model's context ends."""
    context = model.config.to_dict().get("max_position_embeddings") or math.inf
    if prompt >= context:
        raise WorkbenchError(f"The prompt has {prompt} tokens and {label} reads at most {context}. Shorten the prompt.")
    return int(min(wanted, context - prompt))


def _check_alike(one: PreTrainedModel, other: PreTrainedModel) -> None:
    shapes, others = ({name: parameter.shape for name, parameter in model.named_parameters()} for model in (one, other))
    unlike = sorted(name for name in {*shapes, *others} if shapes.get(name) != others.get(name))
    if unlike:
        raise WorkbenchError(
            f"Weights can be lent only between models of one shape, and {len(unlike)} of these differ, first {unlike[0]}. "
            "Compare models of one base, or choose another decoder."
        )


def _same_vocabulary(base: PreTrainedModel, model: PreTrainedModel, label: str) -> None:
    ours, theirs = base.config.vocab_size, model.config.vocab_size
    if ours != theirs:
        raise WorkbenchError(
            f"{label} has a vocabulary of {theirs} tokens and the first model one of {ours}: token by token they cannot be "
            "held against each other. Compare models of one family."
        )
