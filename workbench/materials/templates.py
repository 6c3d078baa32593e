"""Rows into tokens with a mask of what is learnt: one tokenisation, and the mask from character spans.

What it is: the last step before tensors, and the same thing told piece by piece for the page ("what the trainer sees").
What it is not: it does not render (`rendering.py`) and makes no batches (`packing.py`).

A token is learnt where its characters lie inside a learnt span. Spaces of a token that hang over the span's edge do not
count (the blank in front of a word belongs to the word in most vocabularies); any other token that straddles an edge is
masked. Tokenising the rows whole, and not turn by turn, gives the tokens that the model will see when it is used.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.materials.rendering import Messages, Rendered, Span, TrainOn, render, render_prompt
from workbench.materials.rows import Example, Reject

State = Literal["trained", "masked", "cut"]
End = Literal["learnt", "cut", "none"]
AT_ONCE = 256  # rows in one call of the tokenizer


@dataclass(frozen=True)
class Encoded:
    """One row: T token ids, for each whether it is learnt (as a label), and how many tokens beyond the limit were cut off.

    `end` says what became of the end mark behind the last answer that is left: it is learnt, so the model learns to stop;
    the answer was cut before it; or there is none.
    """

    ids: list[int]
    trained: list[bool]
    cut: int
    end: End = "none"


def encode(tokenizer: PreTrainedTokenizerBase, example: Example, train_on: TrainOn, max_length: int) -> Encoded:
    """The row as tokens, at most `max_length` of them, cut at the end.

    Raises:
        WorkbenchError: the template refuses the row, or hides where its answers are; the sentence names the row.
    """
    rendered = render(tokenizer, example, train_on)
    ids, ends = _tokens(tokenizer, [rendered.text])[0]
    return _encoded(rendered, ids, ends, max_length)


def encode_all(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], train_on: TrainOn, max_length: int
) -> Iterator[Encoded | Reject]:
    """For each row its tokens, or a `Reject` where `encode` would raise; several rows go through the tokenizer at once."""
    rows = iter(examples)
    while batch := list(islice(rows, AT_ONCE)):
        rendered = [_rendered(tokenizer, example, train_on) for example in batch]
        tokens = iter(_tokens(tokenizer, [row.text for row in rendered if isinstance(row, Rendered)]))
        for row in rendered:
            yield row if isinstance(row, Reject) else _encoded(row, *next(tokens), max_length)


def pieces(tokenizer: PreTrainedTokenizerBase, example: Example, train_on: TrainOn, max_length: int) -> list[tuple[str, State]]:
    """The rendered text token by token with what becomes of each; joined, the texts are the rendered text.

    A token without characters of its own (the later bytes of an emoji) is left out.
    """
    rendered = render(tokenizer, example, train_on)
    _, ends = _tokens(tokenizer, [rendered.text])[0]
    found: list[tuple[str, State]] = []
    start = 0
    for index, (end, learnt) in enumerate(zip(ends, _learnt(rendered, ends), strict=True)):
        state: State = "cut" if index >= max_length else "trained" if learnt else "masked"
        if end > start:
            found.append((rendered.text[start:end], state))
        start = end
    return found


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """The tokens after which the model answers: the conversation and the opening of the assistant's turn."""
    return list(tokenizer(render_prompt(tokenizer, messages), add_special_tokens=False, verbose=False)["input_ids"])


def _rendered(tokenizer: PreTrainedTokenizerBase, example: Example, train_on: TrainOn) -> Rendered | Reject:
    try:
        return render(tokenizer, example, train_on)
    except WorkbenchError as error:
        return Reject(example.source, example.line, "", str(error), "", example.as_text()[:200])


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[tuple[list[int], list[int]]]:
    """(ids, ends) of each text; token i covers the characters from the end of token i−1 to its own."""
    if not texts:
        return []
    encoded: Any = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    return [
        (ids, _ends(offsets, len(text))) for ids, offsets, text in zip(encoded["input_ids"], encoded["offset_mapping"], texts, strict=True)
    ]


def _ends(offsets: list[Span], length: int) -> list[int]:
    """Offsets as a partition of the text: what a tokenizer passes over belongs to the token behind it, the rest to the last."""
    ends, reached = [], 0
    for _, end in offsets:
        reached = max(reached, end)
        ends.append(reached)
    if ends:
        last = ends[-1]
        ends = [length if end == last else end for end in ends] if last < length else ends
    return ends


def _encoded(rendered: Rendered, ids: list[int], ends: list[int], max_length: int) -> Encoded:
    learnt = _learnt(rendered, ends)
    return Encoded(ids[:max_length], learnt[:max_length], max(0, len(ids) - max_length), _end(rendered, ends, learnt, max_length))


def _end(rendered: Rendered, ends: list[int], learnt: list[bool], max_length: int) -> End:
    """What became of the end mark of the last learnt span that begins before the cut."""
    reached = ends[max_length - 1] if len(ends) > max_length else len(rendered.text)
    left = [place for place, (start, _) in enumerate(rendered.learnt) if start < reached]
    if not left:
        return "none"
    mark = rendered.ends[left[-1]]
    if 0 < mark <= reached and learnt[bisect.bisect_left(ends, mark)]:
        return "learnt"
    return "cut" if reached < rendered.learnt[left[-1]][1] else "none"


def _learnt(rendered: Rendered, ends: list[int]) -> list[bool]:
    """For each token whether its characters, spaces at its ends aside, lie in one learnt span."""
    text, spans = rendered.text, rendered.learnt
    if spans == ((0, len(text)),):
        return [True] * len(ends)
    learnt: list[bool] = []
    start = at = 0
    for end in ends:
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        if end == start and learnt:
            learnt.append(learnt[-1])  # a later byte of the same character
        elif at == len(spans) or end <= spans[at][0]:
            learnt.append(False)
        else:
            left, right = _bare(text, start, end)
            learnt.append(spans[at][0] <= left and right <= spans[at][1])
        start = end
    return learnt


def _bare(text: str, start: int, end: int) -> Span:
    """The characters of a token without the spaces at its ends; a token of nothing but spaces counts whole."""
    piece = text[start:end]
    if not piece.strip():
        return start, end
    return end - len(piece.lstrip()), start + len(piece.rstrip())
