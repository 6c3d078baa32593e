"""Several models answer one prompt side by side: one token each in turn, drawn with the same random numbers.

The first model is the base the others are held against: beside every token's log-probability stands the one the base
would have given it at that place, which is what the page tints tokens by. Knows nothing of panes or colours.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Noted, Progress, Said, Started
from workbench.core.spec import CompareSpec
from workbench.core.workspace import Workspace
from workbench.jobs.machine import share_cores
from workbench.materials.models import load, place, resolve
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.templates import prompt_ids
from workbench.methods.contracts import Voice

REFRESH = 0.1  # seconds between two glances at an answer that grows


class ModelVoice(Voice):
    """A model with the cache of what it has heard so far."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
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


@dataclass
class Pane:
    """One model's answer as it grows."""

    reference: str
    tokenizer: PreTrainedTokenizerBase
    voice: Voice
    base: Voice
    prompt: list[int]
    limit: int
    answer: list[int] = field(default_factory=list)
    logps: list[tuple[float, float]] = field(default_factory=list)
    ended: bool = False
    shown: float = 0.0

    def speak(self, spec: CompareSpec, luck: float) -> None:
        """Add one token, drawn with the number `luck` in [0, 1)."""
        tokens = [*self.prompt, *self.answer]
        logits = spec.decoder.logits(self.voice, self.base, tokens)
        token = draw(logits, spec.temperature, luck)
        own, other = (voice.logits(tokens).log_softmax(-1)[token].item() for voice in (self.voice, self.base))
        self.ended = token == self.tokenizer.eos_token_id
        if not self.ended:
            self.answer.append(token)
            self.logps.append((own, other))
            self.ended = len(self.answer) >= self.limit

    def said(self, prompt: str) -> Said:
        """The answer so far; a token's text is what it adds to the decoded answer, so the texts join to the answer."""
        texts = [self.tokenizer.decode(self.answer[: end + 1]) for end in range(len(self.answer))]
        tokens = [
            [text[len(texts[index - 1]) if index else 0 :], round(own, 5), round(other, 5)]
            for index, (text, (own, other)) in enumerate(zip(texts, self.logps, strict=True))
        ]
        return Said(len(self.answer), self.reference, prompt, texts[-1] if texts else "", tokens, self.ended)


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
        voice = ModelVoice(model)
        limit = room(model, len(prompt), spec.max_tokens, ref.label)
        if limit < spec.max_tokens:
            yield Noted(f"{ref.label} has room for {limit} of the {spec.max_tokens} tokens asked for.", "watch")
        panes.append(Pane(ref.reference, tokenizer, voice, voice if model is base else ModelVoice(base), prompt, limit))
    return panes


def room(model: PreTrainedModel, prompt: int, wanted: int, label: str) -> int:
    """How many tokens can follow the prompt before the model's context ends."""
    context = model.config.to_dict().get("max_position_embeddings") or math.inf
    if prompt >= context:
        raise WorkbenchError(f"The prompt has {prompt} tokens and {label} reads at most {context}. Shorten the prompt.")
    return int(min(wanted, context - prompt))


def _same_vocabulary(base: PreTrainedModel, model: PreTrainedModel, label: str) -> None:
    ours, theirs = base.config.vocab_size, model.config.vocab_size
    if ours != theirs:
        raise WorkbenchError(
            f"{label} has a vocabulary of {theirs} tokens and the first model one of {ours}: token by token they cannot be "
            "held against each other. Compare models of one family."
        )
