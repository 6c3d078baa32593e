"""What is found by looking through the rows of a data set under its recipe: copies, what stands on both sides of the split, what steps
would mend, text of what models are measured with, further languages.

All rows are looked through for what short hashes tell, the first ones by the steps, and some for their language. What it is not: what the
file or the tokens tell (`findings.py`).
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench.core.events import Progress
from workbench.core.memory import Memory
from workbench.core.method import shelf
from workbench.core.words import count
from workbench.core.workspace import Workspace
from workbench.jobs import leaks, tongues
from workbench.jobs.astride import astride
from workbench.jobs.issues import Issue, counted, issue, remedy
from workbench.jobs.steps import Curated
from workbench.materials.around import Around
from workbench.materials.corpus import digest, normalised, sides
from workbench.materials.overlap import asked
from workbench.materials.rows import Chosen, Example

LOOKED = 20_000  # rows that steps look through for findings; the first ones
SEED = 0  # of the split that is looked at: a run's own where nobody changes it


@dataclass(frozen=True)
class Seen:
    """What was found in the rows; and the rows that steps looked through, with the first one that each says nearly the same as."""

    issues: list[Issue]
    rows: list[int]
    groups: Sequence[int]


_held, _split = Memory[Seen](4), Memory[list[Issue]](8)


def of_rows(data: Curated, name: str, share: float, workspace: Workspace, model: str) -> Generator[Progress, None, list[Issue]]:
    """What is found in the rows of the set `name`, of which this share is held back; remembered while they stay the same."""
    kept_apart = yield from leaks.apart(leaks.measuring(name, workspace), workspace)
    seen = _held.get((data, kept_apart))
    if seen is None:
        seen = _held.put((data, kept_apart), (yield from _seen(data, kept_apart, workspace, model)))
    return [*seen.issues, *(yield from _of_split(data, seen, share))]


def _seen(data: Curated, kept_apart: leaks.Apart, workspace: Workspace, model: str) -> Generator[Progress, None, Seen]:
    """Rows that say the same, or answer one question differently; told by short hashes, as a million texts would not fit into memory.
    And what a closer look at some of the rows finds."""
    seen, first_asked = set[int](), dict[int, int]()
    copies, conflicts, silent, some, measured = [], [], [], [], dict[int, Sequence[int]]()
    every = tongues.spaced(len(data.kept))
    for done, (index, example) in enumerate(zip(data.kept, Chosen(data.examples, data.kept), strict=True)):
        if done % 1000 == 0:
            yield Progress(done, len(data.kept), "rows looked through")
        if done % every == 0:
            some.append((index, example))
        question, answer = normalised(example.question()), digest(example.answer())
        whole, asks = digest(normalised(example.as_text())), digest(question)
        users = [turn["content"] for turn in example.messages if turn["role"] == "user"]
        if users and not any(map(_says, users)):
            silent.append(index)
        if whole in seen:
            copies.append(index)
        elif question and first_asked.setdefault(asks, answer) != answer:
            conflicts.append(index)
        seen.add(whole)
        marks = (asks, whole, *_bare(example)) if kept_apart.whole else ()
        if not kept_apart.whole.isdisjoint(marks):
            measured[index] = marks
    issues = _of_digests(copies, conflicts, silent)
    again = set(copies)
    rows = [index for index in data.kept if index not in again][:LOOKED]
    by_steps, groups = yield from _by_steps(data, rows, Around(workspace, model))
    issues += [*by_steps, *(yield from _of_leaks(data, rows, measured, kept_apart, workspace)), *(yield from _of_languages(data, some))]
    return Seen(issues, rows, groups)


def _says(content: object) -> bool:
    return bool(str(content or "").strip())


def _bare(example: Example) -> list[int]:
    """What stands for a question without the system turn before it."""
    return [leaks.mark(asked(example, "question"))] if example.messages and example.messages[0]["role"] == "system" else []


def _of_digests(copies: list[int], conflicts: list[int], silent: list[int]) -> list[Issue]:
    issues = []
    if copies:
        text = f"{counted(len(copies), 'says', 'say')} the same as an earlier row. A selection step can drop them."
        issues.append(issue("copies", text, "watch", copies))
    if conflicts:
        text = (
            f"{counted(len(conflicts), 'answers', 'answer')} a question differently than an earlier row does. Look whether both are right."
        )
        issues.append(issue("conflicts", text, "info", conflicts))
    if silent:
        text = (
            f"{counted(len(silent), 'asks', 'ask')} nothing: the question is empty, and the answer would be learnt to no question at all."
        )
        issues.append(issue("no question", text, "watch", silent))
    return issues


def _by_steps(data: Curated, rows: list[int], around: Around) -> Generator[Progress, None, tuple[list[Issue], Sequence[int]]]:
    """What the steps that look through a new data set find, in rows that are no copies; and which of these say nearly the same."""
    issues, groups = list[Issue](), list[int]()
    of = "" if len(rows) < LOOKED else f" (of the first {LOOKED:,}, which were looked through)"
    for step in shelf("selectors").values():
        if step.finds[0]:
            selection = yield from step.looking().keep(Chosen(data.examples, rows), around)
            groups = list(selection.groups) or groups
            later = [place for place, first in enumerate(selection.groups) if first != place]
            hits = [rows[place] for place in sorted({*selection.reasons, *selection.changed, *later})]
            if hits:
                issues.append(issue(step.mends[0], f"{counted(len(hits), *step.finds)}{of}.", "watch", hits))
    return issues, groups


def _of_split(data: Curated, seen: Seen, share: float) -> Generator[Progress, None, list[Issue]]:
    """Rows that would be held back for validation and say nearly the same as one that is trained on."""
    if share == 0 or all(first == place for place, first in enumerate(seen.groups)):
        return []
    if (there := _split.get((data, share))) is not None:
        return there
    together = data.groups[seen.rows].tolist() if len(data.groups) else ()
    rows = Chosen(data.examples, seen.rows)
    train, held = yield from sides(rows, share, SEED, together)
    both = [seen.rows[place] for place in (yield from astride(rows, seen.groups, train, held))]
    text = (
        f"{len(both):,} of the {count(len(held), 'row')} that are held back for validation {'say' if len(both) > 1 else 'says'} nearly the "
        "same as a row that is trained on, so the validation loss comes out too low. The step drops near copies; where all are wanted, let "
        "it keep all of a group, which then stays on one side."
    )
    return _split.put((data, share), [issue("copies on both sides", text, "watch", both)] if both else [])


def _of_leaks(
    data: Curated, rows: list[int], same: Mapping[int, Sequence[int]], kept_apart: leaks.Apart, workspace: Workspace
) -> Generator[Progress, None, list[Issue]]:
    step = remedy("leaks")
    if step is None:
        return []
    found = yield from leaks.leaks(data, rows, same, kept_apart, step, workspace)
    nearly = "or nearly so" if len(rows) < LOOKED else f"or, in the first {LOOKED:,}, nearly so"
    issues = []
    for name, hits in found.items():
        text = (
            f"{counted(len(hits), 'holds', 'hold')} text of {name}, with which models are measured, word for word {nearly}. What "
            "a model has learnt by heart does not tell what it can do."
        )
        issues.append(replace(issue("leaks", text, "watch", hits, name, "question"), kind=f"leaks: {name}"))
    return issues


def _of_languages(data: Curated, some: list[tuple[int, Example]]) -> Generator[Progress, None, list[Issue]]:
    found = yield from tongues.mixed(some)
    if found is None:
        return []
    names = [f"{name} ({rows:,})" for name, rows in found.others.items()]
    others = ", ".join(names) if len(names) > 1 else next(iter(found.others))
    of = "" if found.read == len(data.kept) else f" (of {found.read:,} that were read, spread over all)"
    what = ("has an answer", "have an answer") if found.part == "answer" else ("is", "are")
    text = f"{counted(len(found.rows), *what)} in {others}{of}, while most are in {found.main}."
    return [issue("other languages", text, "info" if found.meant else "watch", found.rows, found.codes, found.part)]
