"""What each model thinks of every answer, token by token: all of them read what one of them said.

What it is: one pass of each answer through each model, those of one choir in one batch, and a table in long form for each answer. What
it is not: how the answers came about (`compare.py`). The whole vocabulary is looked at, a few places at a time, so that no table of
log-probabilities grows with the answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.core.events import Progress, Table
from workbench.jobs.gathering import Cast
from workbench.materials.choir import Choir, Seating, together
from workbench.materials.roomy import RoomyCache
from workbench.materials.speakers import ModelVoice, Singer
from workbench.materials.token_stats import kl

COLUMNS = ["place", "token", "model", "logp", "kl", "likeliest"]
LIKELIEST = 5
AT_ONCE = 1 << 24  # log-probabilities in memory


@dataclass(frozen=True)
class Spoken:
    """An answer: who said it, after what."""

    reference: str
    prompt: list[int]
    answer: list[int]


def token_view(spoken: Sequence[Spoken], models: Sequence[str], cast: Cast) -> Iterator[Progress | Table]:
    """Of each answer a table with a row for each place and model: log-probability of the token there, Kullback-Leibler divergence
    (nats) from what the speaker itself expects there, and the likeliest tokens as [text, probability]."""
    for number, said in enumerate(spoken):
        yield Progress(number, len(spoken), "reading every answer with every model")
        texts, rows = cast.voices[0].texts(said.answer), list[list[object]]()
        for first, expected in _expected(said, cast.voices):
            told = _figures(expected, models.index(said.reference), said.answer[first : first + expected.shape[1]], cast)
            rows += [
                [place, texts[place], model, *row]
                for place, of_models in enumerate(told, first)
                for model, row in zip(models, of_models, strict=True)
            ]
        yield Table(f"tokens of {said.reference}", COLUMNS, rows)


def _figures(expected: Tensor, speaker: int, answer: Sequence[int], cast: Cast) -> list[list[list[object]]]:
    """By place and model [logp, kl, likeliest], from the (models, k, V) log-probabilities at the k places of a piece of an answer."""
    chosen = torch.tensor(answer, device=expected.device).expand(len(expected), 1, -1).transpose(1, 2)
    logps = expected.gather(-1, chosen)[..., 0].T.tolist()
    apart = kl(expected[speaker].expand_as(expected), expected).clamp(min=0).T.tolist()
    top = expected.topk(min(LIKELIEST, expected.shape[-1]))
    words = {token: cast.tokenizer.decode([token]) for token in top.indices.unique().tolist()}
    tokens, shares = top.indices.transpose(0, 1).tolist(), top.values.exp().transpose(0, 1).tolist()
    return [
        [
            [round(logp, 5), round(nats, 6), [[words[one], round(share, 5)] for one, share in zip(*best, strict=True)]]
            for logp, nats, *best in zip(*of_models, strict=True)
        ]
        for of_models in zip(logps, apart, tokens, shares, strict=True)
    ]


def _expected(said: Spoken, voices: Sequence[ModelVoice]) -> Iterator[tuple[int, Tensor]]:
    """(place, (models, k, V) log-probabilities there and at the next places), until the answer's end."""
    step = max(1, AT_ONCE // (len(voices) * voices[0].model.config.vocab_size))
    before_last = said.answer[:-1]  # nobody asks what comes after the last
    pieces = [before_last[start : start + step] for start in range(0, len(before_last), step)]
    readers, place = _readers(voices), 0
    for text, keep in [(said.prompt, 1), *((piece, len(piece)) for piece in pieces)] if said.answer else []:
        found = [(reader.places, reader.read(text, keep)) for reader in readers]
        expected = found[0][1].new_empty(len(voices), *found[0][1].shape[1:])
        for places, table in found:
            expected[places] = table
        yield place, expected
        place += keep


@dataclass
class Reader:
    """Models that read in one batch, with what they read so far; `places`: which of all models they are."""

    voices: list[ModelVoice]
    places: list[int]
    seating: Seating | None = None
    cache: RoomyCache = field(default_factory=RoomyCache)

    def read(self, text: list[int], keep: int) -> Tensor:
        """(models, keep, V) log-probabilities after the last `keep` tokens of the text."""
        first = self.voices[0]
        if isinstance(first, Singer) and self.seating is not None:
            first.choir.seating = self.seating
        ids = torch.tensor([text] * len(self.voices), device=first.model.device)
        out = first.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=keep)
        return out.logits[:, -keep:].float().log_softmax(-1)


def _readers(voices: Sequence[ModelVoice]) -> list[Reader]:
    """One for each choir, and one for each model that is none of any."""
    alone = [Reader([voice], [place]) for place, voice in enumerate(voices) if not isinstance(voice, Singer)]
    groups: dict[Choir, list[tuple[int, Singer]]] = {}
    for place, voice in enumerate(voices):
        if isinstance(voice, Singer):
            groups.setdefault(voice.choir, []).append((place, voice))
    for choir, group in groups.items():
        group.sort(key=lambda pair: together(pair[1].part))
        places, singers = zip(*group, strict=True)
        alone.append(Reader([*singers], [*places], choir.seats([singer.part for singer in singers])))
    return alone
