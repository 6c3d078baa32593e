"""A row as the text the model reads, and which characters of it are learnt.

What it is: the chat template's rendering, and the character span of each answer in it, found without knowing the
template (data.md 4.4): the conversation is rendered once more with each answer replaced by a sentinel, and what stands
where the sentinel stood is the answer. Where a template changes what it is given, its `{% generation %}` marks are
asked, then whether the shorter conversation is a prefix of the longer one. What it is not: no tokens (`templates.py`).

A model without a chat template (a base model) gets the plain `FALLBACK` below, so that it can be tuned too.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from workbench.core.errors import WorkbenchError
from workbench.materials.rows import Example

TrainOn = Literal["answers", "last_answer", "everything"]
Span = tuple[int, int]  # characters [start, end) of the rendered text
Messages = Sequence[Mapping[str, Any]]

FALLBACK = (
    "{{ opening }}{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}{{ '### Answer:\n' + message.content }}"
    "{%- if message.tool_calls -%}{{ message.tool_calls | tojson }}{%- endif -%}{{ eos_token }}"
    "{%- elif message.role == 'user' -%}{{ '### Question:\n' + message.content }}"
    "{%- elif message.role == 'tool' -%}{{ '### Result:\n' + message.content }}"
    "{%- else -%}{{ message.content }}{%- endif -%}"
    "{%- if not loop.last or add_generation_prompt -%}{{ '\n\n' }}{%- endif -%}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '### Answer:\n' }}{%- endif -%}"
)
"""The template of models that have none: `### Question:` … `### Answer:` …, each answer closed by the end token."""


@dataclass(frozen=True)
class Rendered:
    """The text of one row and the spans of it that are learnt, in order and apart from one another.

    `ends` says of each span where its end mark ends (the template's end of a turn, or the end of the text), −1 without one.
    """

    text: str
    learnt: tuple[Span, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Dialect:
    """What is the same for all rows of a tokenizer: its template, how a text begins and ends, how an answer is closed."""

    template: str | None  # None: the tokenizer's own
    opening: str
    end: str
    closing: str


def render(tokenizer: PreTrainedTokenizerBase, example: Example, train_on: TrainOn) -> Rendered:
    """The row's text and what of it is learnt: the answers with the end-of-turn mark behind them, or everything.

    A plain text is learnt whole, whatever `train_on` says, and ends with the end-of-sequence token; one with places that are learnt
    (`Example.learn`) is taken letter by letter as it stands.

    Raises:
        WorkbenchError: the template refuses the conversation, or hides where the answers are.
    """
    speech = dialect(tokenizer)
    if example.learn and train_on != "everything":
        return Rendered(example.text, example.learn, tuple(_end_mark(example.text, span, speech) for span in example.learn))
    if example.text:
        text = speech.opening + example.text + ("" if example.text.endswith(speech.end or "\0") else speech.end)
        return _learnt_whole(text, speech)
    messages, tools = _plain(example.messages), _tools(example)
    text, messages = _render_or_fold(tokenizer, messages, tools, f"the row {example.source}:{example.line}")
    if train_on == "everything":
        return _learnt_whole(text, speech)
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    learnt = {index for index, message in enumerate(example.messages, len(messages) - len(example.messages)) if message.get("train", True)}
    chosen = [turn for turn in turns[-1 if train_on == "last_answer" else 0 :] if turn in learnt]
    spans = _answer_spans(tokenizer, messages, tools, text, chosen)
    if spans is None:
        raise WorkbenchError(
            f"In the row {example.source}:{example.line} it cannot be told which tokens are the answer, because the chat template of this "
            "model rewrites it. Train on everything, or give the template {% generation %} marks."
        )
    closed = tuple((start, _closed(text, end, speech)) for start, end in spans)
    ends = (_end_mark(text, span, speech) for span in closed)
    return Rendered(text, closed, tuple(end if not text[end:stop].strip() else -1 for end, (_, stop) in zip(ends, closed, strict=True)))


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The conversation with the opening of the assistant's turn behind it, for generating."""
    return _render_or_fold(tokenizer, _plain(messages), None, "this conversation", add_generation_prompt=True)[0]


def dialect(tokenizer: PreTrainedTokenizerBase) -> Dialect:
    """What all rows of this tokenizer share; worked out once."""
    return _dialect(tokenizer, str(tokenizer.chat_template))


@functools.lru_cache(maxsize=16)
def _dialect(tokenizer: PreTrainedTokenizerBase, template: str) -> Dialect:
    if not tokenizer.is_fast:
        raise WorkbenchError("This model's tokenizer cannot say where its tokens lie in the text. Use a model that has a tokenizer.json.")
    begins = tokenizer("a")["input_ids"][:1]
    opening = tokenizer.bos_token if tokenizer.bos_token and begins == [tokenizer.bos_token_id] else ""
    plain = Dialect(None if tokenizer.chat_template else FALLBACK, opening, tokenizer.eos_token or "", "")
    mark = _sentinel(0)
    try:
        probe = _apply(tokenizer, plain, [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}], None)
    except (TemplateError, TypeError, ValueError):
        return plain
    special = sorted({*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values())}, key=len, reverse=True)
    known = "|".join(re.escape(token) for token in special if token)
    closing = re.match(rf"\s*(?:{known})", probe.partition(mark)[2]) if known else None
    return Dialect(plain.template, opening, plain.end, closing.group() if closing else "")


def _sentinel(number: int) -> str:
    return f"ANSWER-8d1f{number}c7-STANDS-HERE"


def _plain(messages: Messages) -> list[dict[str, Any]]:
    """The messages as templates expect them, without the marks that are ours."""
    return [{key: value for key, value in message.items() if key != "train"} for message in messages]


def _tools(example: Example) -> list[Any] | None:
    tools = example.meta.get("tools")
    try:
        tools = json.loads(tools) if isinstance(tools, str) else tools
    except ValueError:
        return None
    return tools if isinstance(tools, list) and tools and all(isinstance(tool, dict) for tool in tools) else None


def _apply(tokenizer: PreTrainedTokenizerBase, speech: Dialect, messages: Messages, tools: list[Any] | None, **more: Any) -> str:
    if speech.template:
        more = {"opening": speech.opening, "eos_token": speech.end, **more}
    return tokenizer.apply_chat_template(list(messages), tools=tools, chat_template=speech.template, tokenize=False, **more)


def _render_or_fold(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], tools: list[Any] | None, what: str, **more: Any
) -> tuple[str, list[dict[str, Any]]]:
    """The text and the messages that were rendered; a template that knows no system turn gets it inside the first user turn."""
    speech = dialect(tokenizer)
    try:
        return _apply(tokenizer, speech, messages, tools, **more), messages
    except (TemplateError, TypeError, ValueError) as error:
        folded = _without_system(messages)
        if folded is None:
            raise _refused(what, error) from error
    try:
        return _apply(tokenizer, speech, folded, tools, **more), folded
    except (TemplateError, TypeError, ValueError) as error:
        raise _refused(what, error) from error


def _refused(what: str, error: Exception) -> WorkbenchError:
    return WorkbenchError(
        f"The chat template of this model refuses {what}: {str(error).rstrip('.')}. Remove the row, or use another model."
    )


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return None
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]


# Where the answers are.


def _answer_spans(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], tools: list[Any] | None, text: str, turns: list[int]
) -> list[Span] | None:
    """The span of each turn's content in `text`, or None where the template hides them."""
    if not turns:
        return []
    speech = dialect(tokenizer)
    try:
        return (
            _all_at_once(text, messages, turns, _apply(tokenizer, speech, _marked(messages, turns), tools))
            or _one_by_one(text, turns, [_apply(tokenizer, speech, _marked(messages, [turn]), tools) for turn in turns])
            or _generation_spans(tokenizer, messages, tools, text, turns)
            or _prefix_spans(tokenizer, speech, messages, tools, text, turns)
        )
    except (TemplateError, TypeError, ValueError):
        return None


def _marked(messages: list[dict[str, Any]], turns: list[int]) -> list[dict[str, Any]]:
    return [_mark(message, _sentinel(index)) if index in turns else dict(message) for index, message in enumerate(messages)]


def _mark(message: dict[str, Any], sentinel: str) -> dict[str, Any]:
    """The turn with the sentinel for what it says; thinking is kept apart from the answer, as templates take it apart."""
    thinks = "</think>" in message["content"]
    marked = {"role": "assistant", "content": f"<think>\n{sentinel}\n</think>\n\n{sentinel}" if thinks else sentinel}
    return {**marked, "reasoning_content": sentinel} if message.get("reasoning_content") else marked


def _all_at_once(text: str, messages: list[dict[str, Any]], turns: list[int], marked: str) -> list[Span] | None:
    """One rendering serves all answers where the template is verbatim (but for spaces at the ends); checked by rebuilding `text`."""
    spans, at, rest = [], 0, marked
    for turn in turns:
        before, found, rest = rest.partition(_sentinel(turn))
        at += len(before)
        said = messages[turn]["content"]
        content = next((form for form in (said, said.strip(), said.lstrip(), said.rstrip()) if text.startswith(form, at)), None)
        if not found or content is None or text[at - len(before) : at] != before:
            return None
        spans.append((at, at + len(content)))
        at += len(content)
    return spans if text[at:] == rest else None


def _one_by_one(text: str, turns: list[int], marked: list[str]) -> list[Span] | None:
    """Each answer from a rendering of its own: what is before and behind the sentinel must be before and behind the answer."""
    spans = []
    for turn, rendering in zip(turns, marked, strict=True):
        sentinel = _sentinel(turn)
        before, found, _ = rendering.partition(sentinel)
        behind = rendering.rpartition(sentinel)[2]
        start, end = len(before), len(text) - len(behind)
        if not found or end <= start or not (text.startswith(before) and text.endswith(behind)):
            return None
        spans.append((start, end))
    return spans


def _generation_spans(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], tools: list[Any] | None, text: str, turns: list[int]
) -> list[Span] | None:
    """What the template itself marks as generated; there must be one mark an assistant turn."""
    template = str(tokenizer.chat_template)
    if not re.search(r"\{%-?\s*generation\s*-?%\}", template):
        return None
    encoded = tokenizer.apply_chat_template(
        list(messages), tools=tools, return_dict=True, return_assistant_tokens_mask=True, tokenizer_kwargs={"return_offsets_mapping": True}
    )
    spans: list[Span] = []
    for (start, end), mine in zip(encoded["offset_mapping"], encoded["assistant_masks"], strict=True):
        if mine and spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        elif mine:
            spans.append((start, end))
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return [spans[answers.index(turn)] for turn in turns] if len(spans) == len(answers) else None


def _prefix_spans(
    tokenizer: PreTrainedTokenizerBase,
    speech: Dialect,
    messages: list[dict[str, Any]],
    tools: list[Any] | None,
    text: str,
    turns: list[int],
) -> list[Span] | None:
    """The turn is what the conversation up to it adds to the one before it, where a shorter one is a prefix of a longer one."""
    spans = []
    for turn in turns:
        before = _apply(tokenizer, speech, messages[:turn], tools, add_generation_prompt=True)
        until = _apply(tokenizer, speech, messages[: turn + 1], tools)
        if not (text.startswith(until) and until.startswith(before)):
            return None
        spans.append((len(before), len(until.rstrip())))
    return spans


def _closed(text: str, end: int, speech: Dialect) -> int:
    """`end`, moved behind the end-of-turn mark that follows the answer, so that the model learns to stop."""
    if speech.closing and text.startswith(speech.closing, end):
        return end + len(speech.closing)
    spaces = len(text[end:]) - len(text[end:].lstrip())
    return end + spaces + len(speech.end) if speech.end and text.startswith(speech.end, end + spaces) else end


def _learnt_whole(text: str, speech: Dialect) -> Rendered:
    return Rendered(text, ((0, len(text)),), (_end_mark(text, (0, len(text)), speech),))


def _end_mark(text: str, span: Span, speech: Dialect) -> int:
    """Where the last end mark inside a span ends, −1 without one."""
    marks = [mark for mark in (speech.closing.strip(), speech.end) if mark and mark in text[slice(*span)]]
    return max((text.rindex(mark, *span) + len(mark) for mark in marks), default=-1)
