"""Where two answers part: the first word at which the tuned model says another than the base, and the layer in which it makes up its mind.

The logit lens (nostalgebraist, 2020) at one word. What it is not: a proof that this layer causes the word, which is what patching asks
(`layer_patching.py`). Tags as in the project's notes: [K] known, [D] derived, [O] our own choice.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from workbench.core.events import Progress, Table
from workbench.core.looking import LooksAtRows
from workbench.core.method import knob
from workbench.core.picture import Finding, Picture
from workbench.materials.answered import excerpt
from workbench.materials.models import head_logits
from workbench.materials.subject import Subject
from workbench.materials.walking import lens, paired
from workbench.methods.contracts import Inspection

ROWS = ["model", "row", "question", "both say", "the tuned model goes on", "the base goes on", "token", "the tuned model decides in layer",
        "the base decides in layer"]  # fmt: skip
LAYERS = ["model", "layer", "share that prefer the tuned model's word", "preference (logits)", "answers decided here"]


@dataclass(frozen=True)
class Parting:
    """What both say, then the token of each; `own` and `base` (L,): the tuned token's logit less the base's, after each layer."""

    common: list[int]
    tuned_says: int
    base_says: int
    own: Tensor
    base: Tensor

    @property
    def decided(self) -> tuple[int, int]:
        """The layers from which on the tuned model prefers its own token to the end, and the base its own."""
        return settled(self.own > 0), settled(self.base < 0)


class WhereAnswersPart(LooksAtRows, Inspection, title="Where answers part"):
    """See at which word the tuned model begins to answer otherwise than the base, and in which layer it turns to its own word.

    $$z_\\ell = \\mathrm{head}(\\mathrm{norm}(x_\\ell)), \\qquad
    \\ell^* = \\min \\{ \\ell : z_k(a) > z_k(b) \\;\\text{for all}\\; k \\ge \\ell \\}$$

    Both answer each row's question, always with the likeliest token, until the tuned model says a where the base says b. There the state
    that each layer leaves is read as if the model ended with it, behind its own final norm and head: the logit lens [K]. It decides in the
    layer from which on its own word stands above the other's to the end [O]; after the last layer the lens is what the model says [D].

    Where this layer is late, the two words are still open until nearly the end. The base is read at the same place, and its line shows
    where it turns to the other word. The lens reads early layers roughly, for their states are not made for the head [K].
    """

    pictures = (
        Picture("by layer", "lines", "Which word is preferred, layer by layer", x="layer", y="share that prefer the tuned model's word"),
        Picture("by layer", "bars", "In which layers it is decided", x="layer", y="answers decided here"),
    )
    still = {"answers that part": 0.0}

    most_tokens: int = knob(24, ge=1, le=1000, help="tokens of an answer after which the two count as saying the same", log=True)

    def costs(self) -> str:
        return f"Both models answer up to {self.most_rows} questions, each until they differ or for {self.most_tokens} tokens."

    def inspect(self, subject: Subject) -> Generator[Progress, None, Finding]:
        prompts = [row.ids[: row.trained.index(True)] or row.ids for row in subject.rows[self.rows]]
        numbers, rows, layers, says = dict[str, dict[str, float]](), list[list[Any]](), list[list[Any]](), list[str]()
        for number, label in enumerate(subject.labels):
            paired(subject.tuned(number), subject.base, label)
            found = dict[int, Parting]()
            for place, prompt in enumerate(prompts):
                yield Progress(number * len(prompts) + place, len(subject.labels) * len(prompts), "questions answered")
                parting = self._parted(subject.tuned(number), subject.base, prompt, subject.tokenizer.eos_token_id)
                found |= {place: parting} if parting else {}
            partings = list(found.values())
            rows += [[label, place + 1, *self._told(subject, place, parting)] for place, parting in found.items()]
            layers += _by_layer(label, [(parting.own, parting.decided[0]) for parting in partings])
            beside = f"{subject.refs[0].label}, where {label} differs"
            layers += _by_layer(beside, [(parting.base, parting.decided[1]) for parting in partings])
            numbers[label] = {"answers that part": len(found) / len(prompts)}
            if partings:
                numbers[label]["layer that decides"] = sum(parting.decided[0] for parting in partings) / len(partings)
            says.append(_said(label, numbers[label], len(prompts), self.most_tokens))
        tables = [Table("where they part", ROWS, rows), Table("by layer", LAYERS, layers)]
        return Finding(says, [table for table in tables if table.rows], numbers)

    @torch.no_grad()
    def _parted(self, tuned: PreTrainedModel, base: PreTrainedModel, prompt: list[int], end: int | None) -> Parting | None:
        context = tuned.config.to_dict().get("max_position_embeddings")
        room = min(self.most_tokens, context - len(prompt) + 1) if context else self.most_tokens
        readers, common, new = (_Reader(tuned), _Reader(base)), list[int](), prompt
        for _ in range(room):
            own, other = (reader.next(new) for reader in readers)
            if own != other:
                ids = torch.tensor([prompt + common], device=tuned.device)
                batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                seen = (head_logits(model, lens(model, batch)[:, 0, -1]) for model in (tuned, base))
                return Parting(common, own, other, *((logits[:, own] - logits[:, other]).cpu() for logits in seen))
            if own == end:
                break
            common.append(own)
            new = [own]
        return None

    def _told(self, subject: Subject, place: int, parting: Parting) -> list[Any]:
        words = [subject.tokenizer.decode(ids) for ids in (parting.common, [parting.tuned_says], [parting.base_says])]
        return [excerpt(subject.examples[self.rows][place].question()), *words, len(parting.common) + 1, *parting.decided]


class _Reader:
    """A model with the cache of what it has read."""

    def __init__(self, model: PreTrainedModel):
        self.model, self.cache = model, DynamicCache(config=model.config)

    def next(self, new: list[int]) -> int:
        """The likeliest token after all that was read."""
        ids = torch.tensor([new], device=self.model.device)
        return int(self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())


def settled(holds: Tensor) -> int:
    """The first layer from which on it holds to the end; of what does not hold at the end the number of layers."""
    return len(holds) - int(holds.flip(0).int().cumprod(0).sum())


def _by_layer(label: str, found: Sequence[tuple[Tensor, int]]) -> list[list[Any]]:
    """Rows of `LAYERS`, from how each answer leans layer by layer and the layer that decided it."""
    if not found:
        return []
    table, decided = torch.stack([leans for leans, _ in found]), [layer for _, layer in found]
    shares, means = (table > 0).double().mean(0).tolist(), table.double().mean(0).tolist()
    return [[label, layer, share, mean, decided.count(layer)] for layer, (share, mean) in enumerate(zip(shares, means, strict=True))]


def _said(label: str, numbers: dict[str, float], questions: int, most: int) -> str:
    parted = round(numbers["answers that part"] * questions)
    if not parted:
        return f"{label} begins its answers to all {questions} questions as the base does, for {most} tokens."
    return (
        f"{label} answers {parted} of {questions} questions otherwise than the base within {most} tokens; it turns to its own word in "
        f"layer {numbers['layer that decides']:.1f} on average."
    )
