"""What a person should know of a training run before it starts: what moves, whether it fits, what is learnt, what costs extra.

Sentences with a level: `safe` is good to know, `watch` is worth a look and can be passed, `act` stops the start. The page draws
them and the shell prints them. Reads, counts and compares; it starts nothing, and what a step takes is `trial.py`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from transformers import PreTrainedTokenizerBase

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.rank import Ranked
from workbench.core.spec import TrainSpec
from workbench.core.words import count, duration, number, size
from workbench.core.workspace import Workspace
from workbench.jobs import steps
from workbench.jobs.balancing import SOON, missing
from workbench.jobs.curate import Look, look, tokenizer_of
from workbench.jobs.estimate import Rows, disk, estimate
from workbench.jobs.leading import possible
from workbench.jobs.prepare import base_of
from workbench.materials.corpus import path_of
from workbench.materials.low_rank import matrices
from workbench.materials.models import resolve, skeleton
from workbench.materials.rounded import stored_so, unfit, uninstalled
from workbench.methods.contracts import Informed

TIGHT = 0.8  # share of the memory or of the free disk above which a run is worth a look


@dataclass(frozen=True)
class Finding:
    level: Literal["safe", "watch", "act"]
    text: str


def audit(spec: TrainSpec, workspace: Workspace) -> list[Finding]:
    """Every finding, in the order in which they are asked for.

    Raises:
        WorkbenchError: the model or the data set cannot be had.
    """
    parts = [part for part in spec.data.parts() if part.weight > 0]
    waits = sum(steps.estimate(part, workspace, spec.model) for part in parts)
    if waits > steps.LONG:
        before = [*_moves(spec, workspace, Rows.of(spec)), *_disk(spec, workspace), _uncounted(waits)]
        return [*before, *_wants(spec, workspace), *_rank(spec, workspace), *_rate(spec), *_costs(spec)]
    seen = [look(part, _tokenizer(spec.model, workspace), workspace, spec.model) for part in parts]
    longest = spec.data.max_length if any(found.sampled for found in seen) else max(max(found.lengths, default=1) for found in seen)
    share = sum(found.trained for found in seen) / max(1, sum(found.tokens for found in seen))
    moves = _moves(spec, workspace, Rows(min(spec.data.max_length, longest), share))
    rows = [finding for found in seen for finding in (*_rows(found), *_ends(found))] + [*_some(spec), *_classes(seen)]
    return [*moves, *_disk(spec, workspace), *rows, *_wants(spec, workspace), *_rank(spec, workspace), *_rate(spec), *_costs(spec)]


def refuse(spec: TrainSpec, workspace: Workspace) -> None:
    """Nothing, where the run can start.

    Raises:
        SpecError: with what stops it, a sentence each; `WorkbenchError`: the model or the data set cannot be had.
    """
    reasons = [finding.text for finding in audit(spec, workspace) if finding.level == "act"]
    if reasons:
        raise SpecError(reasons)


def _moves(spec: TrainSpec, workspace: Workspace, rows: Rows) -> Iterator[Finding]:
    known = estimate(spec, workspace, rows)
    share = known.trained / max(1, known.total)
    most = "At most " if isinstance(spec.adapter, Informed) else ""
    yield Finding("safe", f"{most}{number(known.trained)} of {number(known.total)} numbers will move ({share:.2%}).")
    memory = f"Memory about {size(known.bytes)} of {size(known.machine_bytes)} with rows of {count(rows.longest, 'token')} in a batch"
    if known.bytes <= TIGHT * known.machine_bytes:
        yield Finding("safe", f"{memory}.")
    else:
        yield Finding("watch", f"{memory}: it may not fit. Lower the batch size or the longest row, or compute activations anew.")


def _wants(spec: TrainSpec, workspace: Workspace) -> Iterator[Finding]:
    """GPUs enough; a base that is no adapter, and not quantised where its weights move; the data sets that the adapter looks at."""
    try:
        possible(spec)
        base_of(spec, workspace)
    except WorkbenchError as error:
        yield Finding("act", str(error))
    model = skeleton(resolve(spec.model, workspace).path)
    how = stored_so(model.config.to_dict())
    if how and not spec.adapter.over_rounded:
        yield Finding(
            "act",
            f"{spec.model} is quantised ({how}), and {spec.adapter.title()} reads or moves the numbers of its matrices. Choose the model "
            "as it was before it was quantised, or an adapter beside frozen weights, such as LoRA.",
        )
    if spec.quantization != "none" and (reason := uninstalled() or unfit(model)):
        yield Finding("act", reason)
    for name in filter(None, spec.adapter.looks_at()):
        try:
            if not path_of(name, workspace).exists():
                yield Finding("act", f"There is no file {name} for {spec.adapter.title()} to look at. Name a data set, or another file.")
        except WorkbenchError as error:
            yield Finding("act", f"{spec.adapter.title()} looks at {name!r}. {error}")


def _rank(spec: TrainSpec, workspace: Workspace) -> Iterator[Finding]:
    """A rank that no change of some matrix can have."""
    if not isinstance(spec.adapter, Ranked):
        return
    found = matrices(skeleton(resolve(spec.model, workspace).path), spec.adapter.where)
    name, shape = min(found, key=lambda one: min(one[1]))
    if spec.adapter.rank > min(shape):
        yield Finding(
            "watch",
            f"A rank of {spec.adapter.rank} is more than {name} can have, a matrix of {shape[0]} × {shape[1]}: its change has {min(shape)} "
            "directions at most, and the rest of the numbers learn nothing more. Lower the rank.",
        )


def _rate(spec: TrainSpec) -> Iterator[Finding]:
    """A learning rate far from those that the adapter usually takes, which is the commonest reason why nothing or everything moves."""
    low, high = spec.adapter.rates
    rate = spec.update.model_dump()["lr"]
    if spec.update.adam and not low <= rate <= high:
        side, comes = ("above", "the model may forget much or diverge") if rate > high else ("below", "little may be learnt")
        yield Finding(
            "watch", f"The learning rate {rate:g} is {side} what {spec.adapter.title()} usually takes, {low:g} to {high:g}: {comes}."
        )


def _disk(spec: TrainSpec, workspace: Workspace) -> Iterator[Finding]:
    known, made = disk(spec, workspace), "model" if spec.adapter.whole else "adapter"
    text = f"On disk {size(known.kept)} (checkpoint {size(known.checkpoint)}, {made} {size(known.artifact)})"
    if known.most > known.free:
        what = f"Not enough room on the disk of {workspace.home}: a checkpoint takes {size(known.checkpoint)} and the {made} "
        need = f"{size(known.artifact)}, together {size(known.most)} while one is written, and {size(known.free)} are free."
        yield Finding("act", f"{what}{need} Make room, or choose another workspace with --home.")
    elif known.most > TIGHT * known.free:
        yield Finding("watch", f"{text}, {size(known.most)} while it is written; only {size(known.free)} are free. Make room first.")
    else:
        yield Finding("safe", f"{text}; {size(known.free)} are free.")


def _uncounted(seconds: float) -> Finding:
    return Finding(
        "watch",
        f"What the data set's steps keep is not known yet: to count them takes about {duration(seconds)}. "
        "The run does it before its first step, or count them in the Data tab first.",
    )


def _rows(found: Look) -> Iterator[Finding]:
    """What is learnt from, and the rows and tokens that are lost on the way."""
    told = "of the first rows " if found.sampled else ""
    if not found.trained:
        why = "its steps drop every row" if not found.kept else "every answer is empty or cut off"
        yield Finding("act", f"There is nothing to learn in {found.name!r}: {why}. The Data tab shows the rows.")
        return
    share = f"{found.share_trained:.0%}"
    yield Finding("safe", f"{count(found.kept, 'row')} of {found.rows:,}; {found.trained:,} tokens {told}are learnt ({share}).")
    if found.nothing:
        yield Finding("watch", f"{count(len(found.nothing), 'row')} with nothing to learn are left out. The Data tab shows which.")


def _some(spec: TrainSpec) -> Iterator[Finding]:
    if most := spec.data.most_rows:
        each = " of each set" if spec.data.mix else ""
        yield Finding("safe", f"At most {count(most, 'row')}{each} are learnt from, drawn at random once the validation rows are apart.")


def _classes(seen: Sequence[Look]) -> Iterator[Finding]:
    """What drawing classes equally often does, of each set that has some."""
    every = [portion.classes for found in seen for portion in found.portions if portion.classes]
    there = [one for one in every if one.sizes]
    yield from (Finding("watch" if one.lift > SOON else "safe", one.told()) for one in there)
    if every and not there:
        yield Finding("act", missing(every[0].column, sorted({column for one in every for column in one.columns})))


def _ends(found: Look) -> Iterator[Finding]:
    """Whether the model learns to stop: the end mark behind each row's last answer."""
    learning = found.measured - len(found.nothing)
    told = " of the first" if found.sampled else ""
    if found.unfinished:
        many = f"{count(len(found.unfinished), 'row')}{told} {'is' if len(found.unfinished) == 1 else 'are'}"
        yield Finding(
            "watch",
            f"{many} cut in the middle of the answer, so its end is never learnt. Raise the longest row (the longest here has "
            f"{count(max(found.lengths), 'token')}), or drop such rows with a selection step.",
        )
    if found.endless:
        yield Finding(
            "watch",
            f"In {count(len(found.endless), 'row')}{told} the answer's end is not learnt, because no end mark that the model knows "
            "follows the answer, so the model may not learn to stop. Use a model whose chat template closes its answers, or write "
            "its end token behind each answer.",
        )
    if learning and not found.unfinished and not found.endless:
        yield Finding(
            "safe", f"The end of the answer is learnt in {'every row' if learning > 1 else 'the row'}, so the model learns to stop."
        )
    if found.shortened:
        yield Finding(
            "watch", f"{count(len(found.shortened), 'row')}{told} lose text behind an answer, which is longer than the longest row."
        )


def _costs(spec: TrainSpec) -> Iterator[Finding]:
    """What the chosen methods cost beyond the usual, as each says it."""
    for method in (spec.adapter, spec.loss, spec.update, *spec.noises):
        cost = method.costs()
        if cost:
            yield Finding("watch", f"{method.title()}: {cost}")


@lru_cache(maxsize=4)
def _tokenizer(model: str, workspace: Workspace) -> PreTrainedTokenizerBase:
    """Loaded once, so that what was counted with it stays known."""
    return tokenizer_of(model, workspace)
