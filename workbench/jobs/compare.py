"""Several models answer one prompt side by side: one token each in turn, drawn with the same random numbers.

The first model is the base the others are held against: beside every token's log-probability stands the one the base
would have given it at that place, which is what the page tints tokens by. In a talk each model remembers its own answers. Knows nothing of
panes or colours.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from workbench.core.asking import CompareSpec
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Noted, Progress, Said, Started
from workbench.core.words import count
from workbench.core.workspace import Workspace
from workbench.jobs.gathering import Cast
from workbench.jobs.reading import Spoken, token_view
from workbench.jobs.unfinished import at_hand
from workbench.materials.chorus import Company
from workbench.materials.models import ModelRef
from workbench.materials.models import tokenizer as load_tokenizer
from workbench.materials.rendering import Messages, render_prompt
from workbench.materials.speakers import ModelVoice, Spelling
from workbench.materials.templates import prompt_ids
from workbench.methods.contracts import Speaker, Voice

REFRESH = 0.1  # seconds between two glances at an answer that grows


@dataclass
class Pane:
    """One model's answer as it grows."""

    reference: str
    voice: ModelVoice
    base: ModelVoice
    says: Voice  # whose logits the tokens are drawn from
    prompt: list[int]
    limit: int
    answer: list[int] = field(default_factory=list)
    logps: list[tuple[float, float]] = field(default_factory=list)
    ended: bool = False
    shown: float = 0.0

    def __post_init__(self) -> None:
        self.spelling = Spelling(self.voice.tokenizer)

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.answer]

    def chosen(self, spec: CompareSpec, luck: float) -> int:
        """The next token, drawn with the number `luck` in [0, 1)."""
        return draw(self.says.logits(self.tokens), spec.temperature, luck)

    def speak(self, token: int, own: float, other: float) -> None:
        """Say a token, which has these log-probabilities with the model and with the base."""
        self.ended = token == self.voice.end()
        if not self.ended:
            self.answer.append(token)
            self.logps.append((own, other))
            self.ended = len(self.answer) >= self.limit

    def said(self, prompt: str) -> Said:
        """The answer so far; what its tokens add to the text joins to it."""
        parts = self.spelling.of(self.answer)
        tokens = [[text, round(own, 5), round(other, 5)] for text, (own, other) in zip(parts, self.logps, strict=True)]
        return Said(len(self.answer), self.reference, prompt, "".join(parts), tokens, self.ended)


@torch.no_grad()
def compare(spec: CompareSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """All models answer the prompt; partial answers come at most ten times a second for each, whole ones at the end."""
    with TemporaryDirectory(prefix=".checkpoint-", dir=folder) as scratch:
        refs = yield from _refs(spec, workspace, Path(scratch))
        cast = Cast(load_tokenizer(refs[0]))
        try:
            yield from cast.gather(refs)
            yield from _compared(spec, [ref.label for ref in refs], cast)
        finally:
            cast.disband()
    yield Finished("finished", f"{count(len(refs), 'answer')}.")


def _compared(spec: CompareSpec, labels: Sequence[str], cast: Cast) -> Iterator[Event]:
    panes = [_pane(spec, place, label, cast) for place, label in enumerate(labels)]
    for pane, label in zip(panes, labels, strict=True):
        if pane.limit < spec.max_tokens:
            yield Noted(f"{label} has room for {pane.limit} of the {spec.max_tokens} tokens asked for.", "watch")
    template = render_prompt(cast.tokenizer, messages(spec, spec.models[0]))
    yield Started(spec.max_tokens, {"models": spec.models, "template": template})
    yield from _answers(spec, panes)
    if spec.token_view:
        yield from token_view([Spoken(pane.reference, pane.prompt, pane.answer) for pane in panes], spec.models, cast)


def _refs(spec: CompareSpec, workspace: Workspace, scratch: Path) -> Generator[Event, None, list[ModelRef]]:
    """The models by name; what has to be written for one lies in a folder of its own."""
    refs = []
    for number, reference in enumerate(spec.models):
        (scratch / str(number)).mkdir()
        refs.append((yield from at_hand(reference, workspace, scratch / str(number))))
    return refs


def _answers(spec: CompareSpec, panes: Sequence[Pane]) -> Iterator[Event]:
    luck = torch.rand(max(pane.limit for pane in panes), generator=torch.Generator().manual_seed(spec.seed)).tolist()
    company, asked = Company(), spec.decoder.asks(spec.prompt)
    for turn, number in enumerate(luck):
        alive = [pane for pane in panes if not pane.ended]
        if not alive:
            break
        company.hear({voice: pane.tokens for pane in alive for voice in (pane.voice, pane.base)})
        chosen = [pane.chosen(spec, number) for pane in alive]
        for pane, token, (own, other) in zip(alive, chosen, _likely(alive, chosen), strict=True):
            pane.speak(token, own, other)
            if pane.ended or time.monotonic() - pane.shown > REFRESH:
                pane.shown = time.monotonic()
                yield pane.said(asked)
        yield Progress(turn + 1, spec.max_tokens, "tokens")


def _likely(panes: Sequence[Pane], chosen: Sequence[int]) -> list[list[float]]:
    """By pane the log-probabilities of its token with its model and with the base."""
    said = torch.stack([voice.logits(pane.tokens) for pane in panes for voice in (pane.voice, pane.base)]).log_softmax(-1)
    at = torch.tensor(chosen, device=said.device).repeat_interleave(2)
    return said.gather(1, at[:, None]).unflatten(0, (-1, 2)).squeeze(-1).tolist()


def draw(logits: Tensor, temperature: float, luck: float) -> int:
    """The token at `luck` of the cumulative distribution, likeliest first; at temperature 0 the likeliest."""
    if temperature == 0:
        return int(logits.argmax())
    ordered = (logits / temperature).softmax(-1).sort(descending=True)
    place_in_line = int((ordered.values.cumsum(-1) <= luck * ordered.values.sum()).sum())
    return int(ordered.indices[min(place_in_line, len(logits) - 1)])


def messages(spec: CompareSpec, reference: str) -> Messages:
    """The talk as this model remembers it, and the question as the decoder words it; what it did not answer is not among it."""
    said = [{"role": "system", "content": spec.system}] if spec.system else []
    for exchange in spec.history:
        if reference in exchange.answers:
            said.append({"role": "user", "content": exchange.prompt})
            said.append({"role": "assistant", "content": exchange.answers[reference]})
    return [*said, {"role": "user", "content": spec.decoder.asks(spec.prompt)}]


def _pane(spec: CompareSpec, place: int, label: str, cast: Cast) -> Pane:
    """Each but the first listens to the base with a cache of its own."""
    voice, reference = cast.voices[place], spec.models[place]
    base = cast.voices[0].anew() if place else voice
    prompt = prompt_ids(cast.tokenizer, messages(spec, reference))
    limit = room(voice, len(prompt), spec.max_tokens, label, talk=bool(spec.history))
    return Pane(reference, voice, base, spec.decoder.begin(voice, base), prompt, limit)


def room(voice: Speaker, prompt: int, wanted: int, label: str, talk: bool = False) -> int:
    """How many tokens can follow the prompt before the model's context ends."""
    context = voice.reads()
    if prompt >= context:
        what, remedy = ("The talk so far with the prompt", "Begin a new talk, or shorten") if talk else ("The prompt", "Shorten")
        raise WorkbenchError(f"{what} has {prompt} tokens and {label} reads at most {context:.0f}. {remedy} the prompt.")
    return int(min(wanted, context - prompt))
