"""What a person should know of a data set under its recipe, in sentences: unreadable rows, copies, cut answers, control marks.

Each finding has a kind by which its rows can be shown, and where there is one the step that is the remedy (`Selector.mends`). What it is
not: the counting (`recipe.py`, `steps.py`), the look through the rows (`looked.py`), or the drawing.
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from itertools import islice

from transformers import PreTrainedTokenizerBase

from workbench.core.events import Progress
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.issues import Issue, counted, issue
from workbench.jobs.looked import LOOKED, of_rows
from workbench.jobs.recipe import Measured
from workbench.jobs.steps import Curated
from workbench.materials.rows import QUESTIONS, Chosen, Example

FEW = 20  # rows below which a person is told that there are few


def findings(
    data: Curated, found: Measured, spec: DataSpec, tokenizer: PreTrainedTokenizerBase, workspace: Workspace, model: str
) -> Generator[Progress, None, list[Issue]]:
    """The most pressing first."""
    rows = list(zip(found.rows, Chosen(data.examples, found.rows), strict=True))
    issues = [
        *_of_reading(data, spec.columns),
        *_of_file(data),
        *_of_tokens(spec.max_length, data, found),
        *(yield from of_rows(data, spec.path, spec.validation_share, workspace, model)),
        *_of_template(tokenizer, rows),
    ]
    return sorted(issues, key=lambda one: (("act", "watch", "info").index(one.level), -one.count))


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
        issues.append(issue("other formats", f"The rows have {len(formats)} formats ({shares}). Each was read in its own.", "watch", odd))
    if len(data.kept) < FEW:
        text = f"Only {counted(len(data.kept), 'is', 'are')} left to learn from."
        issues.append(Issue("few", text, "watch" if data.kept else "act", len(data.kept), []))
    return issues


def _of_tokens(longest: int, data: Curated, found: Measured) -> list[Issue]:
    issues = []
    of = "" if len(found.rows) == len(data.kept) else f" (of the first {len(found.rows):,}, which were counted)"
    if found.refused:
        first = next(iter(found.refused.values()))
        text = f"{counted(len(found.refused), 'does', 'do')} not fit the chat template{of}. {first}"
        issues.append(issue("refused", text, "act", list(found.refused)))
    nothing = [index for index in found.nothing if index not in found.refused]
    if nothing and data.corpus.format == QUESTIONS:
        text = "The rows are questions alone, and nothing can be learnt from them. Models can be asked all of them in Compare."
        issues.append(issue("nothing to learn", text, "act", nothing))
    elif nothing:
        text = f"{counted(len(nothing), 'holds', 'hold')} no token to learn{of}: no answer begins within {longest} tokens."
        issues.append(issue("nothing to learn", text, "act" if len(nothing) > len(found.rows) / 2 else "watch", nothing))
    long = [index for index, cut in zip(found.rows, found.cut, strict=True) if cut]
    if long:
        share = sum(found.cut) / sum(found.lengths)
        lost = f"{share * 100:.0f} %" if share >= 0.01 else "under 1 %"
        text = f"{counted(len(long), 'is', 'are')} longer than {longest} tokens{of}; {lost} of all tokens are cut off."
        issues.append(issue("too long", text, "watch", long))
    if found.unfinished:
        text = f"{counted(len(found.unfinished), 'is', 'are')} cut in the middle of an answer{of}, whose end is then never learnt."
        issues.append(issue("cut answers", text, "watch", found.unfinished))
    if found.endless:
        without = counted(len(found.endless), "has", "have")
        text = f"{without} an answer without an end mark that is learnt{of}: the model may not learn to stop."
        issues.append(issue("no end", text, "watch", found.endless))
    return issues


def _of_template(tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[int, Example]]) -> list[Issue]:
    issues = []
    special = [token for token in tokenizer.all_special_tokens if len(token) > 2]
    marked = [index for index, example in rows if any(token in example.as_text() for token in special)]
    if marked:
        holds = counted(len(marked), "holds", "hold")
        text = f"{holds} a control mark of the model in the text (such as {special[0]}), which is taken as one."
        issues.append(issue("control marks", text, "watch", marked))
    if not tokenizer.chat_template and any(example.messages for _, example in rows):
        text = "The model has no chat template. Questions are written as '### Question:' and answers as '### Answer:', one below the other."
        issues.append(Issue("no template", text, "info", 0, []))
    return issues
