"""What a person should know of a data set under its recipe, in sentences: unreadable rows, copies, cut answers, control marks.

Each finding has a kind by which its rows can be shown, and where there is one the name of a step that is the remedy (`Selector.mends`).
What it is not: the counting (`recipe.py`, `steps.py`) or the drawing.
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from transformers import PreTrainedTokenizerBase

from workbench.core.events import Progress
from workbench.core.memory import Memory
from workbench.core.method import shelf
from workbench.core.parts import DataSpec
from workbench.jobs.recipe import Measured
from workbench.jobs.steps import Curated
from workbench.materials.around import Around
from workbench.materials.corpus import digest, normalised
from workbench.materials.rows import Chosen, Example

NAMED = 200  # row numbers a finding names
LOOKED = 20_000  # rows that steps look through for findings; the first ones
FEW = 20  # rows below which a person is told that there are few
Level = Literal["act", "watch", "info"]


@dataclass(frozen=True)
class Issue:
    """Something a person should know of the data; `rows` are row numbers from 1, the first `NAMED` of `count`.

    `kind` tells the findings of a data set apart; `remedy` is the name of a step that is for it, empty where there is none. Where the file
    can be read otherwise, `columns` says how (none is as it is found by itself), and `offer` what that is called.
    """

    kind: str
    text: str
    level: Level
    count: int
    rows: list[int]
    remedy: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    offer: str = ""


_held = Memory[list[Issue]](4)


def findings(
    data: Curated, found: Measured, spec: DataSpec, tokenizer: PreTrainedTokenizerBase, around: Around
) -> Generator[Progress, None, list[Issue]]:
    """The most pressing first. What all rows were looked through for is remembered while they stay the same."""
    of_rows = _held.get(data)
    if of_rows is None:
        of_rows = _held.put(data, (yield from _of_rows(data, around)))
    rows = list(zip(found.rows, Chosen(data.examples, found.rows), strict=True))
    issues = [
        *_of_reading(data, spec.columns),
        *_of_file(data),
        *_of_tokens(spec.max_length, data, found),
        *of_rows,
        *_of_template(tokenizer, rows),
    ]
    return sorted(issues, key=lambda issue: (("act", "watch", "info").index(issue.level), -issue.count))


def _issue(kind: str, text: str, level: Level, indices: Sequence[int]) -> Issue:
    remedy = next((name for name, step in shelf("selectors").items() if kind in step.mends), "")
    return Issue(kind, text, level, len(indices), [index + 1 for index in indices[:NAMED]], remedy)


def _says(content: object) -> bool:
    return bool(str(content or "").strip())


def _rows(count: int, one: str, many: str) -> str:
    """`1 row is`, `12 rows are`."""
    return f"1 row {one}" if count == 1 else f"{count:,} rows {many}"


def _of_reading(data: Curated, columns: Mapping[str, str]) -> list[Issue]:
    """How the file was read, where somebody should look whether that is right."""
    hints = [Issue(hint.text, hint.text, "watch", 0, [], "", hint.columns, hint.offer) for hint in data.corpus.hints]
    if not columns:
        return hints
    said = ", ".join(f"{column!r} is the {role}" for role, column in columns.items())
    return [Issue("columns", f"As the recipe says, {said}.", "info", 0, [], "", {}, "Read it as before"), *hints]


def _of_file(data: Curated) -> list[Issue]:
    issues, rejects, examples = [], data.corpus.rejects, data.examples
    if rejects:
        remedy = Counter(reject.remedy for reject in islice(rejects, LOOKED)).most_common(1)[0][0]  # a reason may name its line
        reason = next(reject.reason for reject in rejects if reject.remedy == remedy)
        text = f"{len(rejects):,} of {len(rejects) + len(examples):,} rows could not be read. Most often: {reason}"
        issues.append(Issue("rejects", text, "act" if len(rejects) > len(examples) else "watch", len(rejects), []))
    formats = Counter(data.corpus.formats)
    if len(formats) > 1:
        shares = ", ".join(f"{name} {count:,}" for name, count in formats.most_common())
        odd = [index for index, example in enumerate(examples) if example.format != data.corpus.format]
        issues.append(_issue("other formats", f"The rows have {len(formats)} formats ({shares}). Each was read in its own.", "watch", odd))
    if len(data.kept) < FEW:
        text = f"Only {_rows(len(data.kept), 'is', 'are')} left to learn from."
        issues.append(Issue("few", text, "watch" if data.kept else "act", len(data.kept), []))
    return issues


def _of_tokens(longest: int, data: Curated, found: Measured) -> list[Issue]:
    issues = []
    of = "" if len(found.rows) == len(data.kept) else f" (of the first {len(found.rows):,}, which were counted)"
    if found.refused:
        first = next(iter(found.refused.values()))
        text = f"{_rows(len(found.refused), 'does', 'do')} not fit the chat template{of}. {first}"
        issues.append(_issue("refused", text, "act", list(found.refused)))
    nothing = [index for index in found.nothing if index not in found.refused]
    if nothing:
        text = f"{_rows(len(nothing), 'holds', 'hold')} no token to learn{of}: no answer begins within {longest} tokens."
        issues.append(_issue("nothing to learn", text, "act" if len(nothing) > len(found.rows) / 2 else "watch", nothing))
    long = [index for index, cut in zip(found.rows, found.cut, strict=True) if cut]
    if long:
        share = sum(found.cut) / sum(found.lengths)
        lost = f"{share * 100:.0f} %" if share >= 0.01 else "under 1 %"
        text = f"{_rows(len(long), 'is', 'are')} longer than {longest} tokens{of}; {lost} of all tokens are cut off."
        issues.append(_issue("too long", text, "watch", long))
    if found.unfinished:
        text = f"{_rows(len(found.unfinished), 'is', 'are')} cut in the middle of an answer{of}, whose end is then never learnt."
        issues.append(_issue("cut answers", text, "watch", found.unfinished))
    if found.endless:
        text = (
            f"{_rows(len(found.endless), 'has', 'have')} an answer without an end mark that is learnt{of}: the model may not learn to stop."
        )
        issues.append(_issue("no end", text, "watch", found.endless))
    return issues


def _of_rows(data: Curated, around: Around) -> Generator[Progress, None, list[Issue]]:
    """Rows that say the same, or answer one question differently; told by short hashes, as a million texts would not fit into memory."""
    seen, asked = set[int](), dict[int, int]()
    copies, conflicts, silent = [], [], []
    for done, (index, example) in enumerate(zip(data.kept, Chosen(data.examples, data.kept), strict=True)):
        if done % 1000 == 0:
            yield Progress(done, len(data.kept), "rows looked through")
        whole, question, answer = digest(normalised(example.as_text())), normalised(example.question()), digest(example.answer())
        users = [turn["content"] for turn in example.messages if turn["role"] == "user"]
        if users and not any(map(_says, users)):
            silent.append(index)
        if whole in seen:
            copies.append(index)
        elif question and asked.setdefault(digest(question), answer) != answer:
            conflicts.append(index)
        seen.add(whole)
    issues = []
    if copies:
        text = f"{_rows(len(copies), 'says', 'say')} the same as an earlier row. A selection step can drop them."
        issues.append(_issue("copies", text, "watch", copies))
    if conflicts:
        text = f"{_rows(len(conflicts), 'answers', 'answer')} a question differently than an earlier row does. Look whether both are right."
        issues.append(_issue("conflicts", text, "info", conflicts))
    if silent:
        text = f"{_rows(len(silent), 'asks', 'ask')} nothing: the question is empty, and the answer would be learnt to no question at all."
        issues.append(_issue("no question", text, "watch", silent))
    again = set(copies)
    return [*issues, *(yield from _by_steps(data, [index for index in data.kept if index not in again][:LOOKED], around))]


def _by_steps(data: Curated, rows: list[int], around: Around) -> Generator[Progress, None, list[Issue]]:
    """What the steps that look through a new data set find with their default knobs, in rows that are no copies."""
    issues = []
    of = "" if len(rows) < LOOKED else f" (of the first {LOOKED:,}, which were looked through)"
    for step in shelf("selectors").values():
        if step.finds[0]:
            selection = yield from step().keep(Chosen(data.examples, rows), around)
            hits = [rows[place] for place in sorted({*selection.reasons, *selection.changed})]
            if hits:
                issues.append(_issue(step.mends[0], f"{_rows(len(hits), *step.finds)}{of}.", "watch", hits))
    return issues


def _of_template(tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[int, Example]]) -> list[Issue]:
    issues = []
    special = [token for token in tokenizer.all_special_tokens if len(token) > 2]
    marked = [index for index, example in rows if any(token in example.as_text() for token in special)]
    if marked:
        text = (
            f"{_rows(len(marked), 'holds', 'hold')} a control mark of the model in the text (such as {special[0]}), which is taken as one."
        )
        issues.append(_issue("control marks", text, "watch", marked))
    if not tokenizer.chat_template and any(example.messages for _, example in rows):
        text = "The model has no chat template. Questions are written as '### Question:' and answers as '### Answer:', one below the other."
        issues.append(Issue("no template", text, "info", 0, []))
    return issues
