"""A paper's claim checked: its runs trained, merged and asked once with each seed, and the verdict that their numbers come to.

Everything happens in a workspace of its own inside the run's folder, so that the runs of a claim are not mixed with a person's, and is
taken away in the end: what is kept are the numbers, the verdict and the specs, from which anybody can have the same again. The tables grow
with every seed. A check that was stopped goes on with the seeds that are not done; what the others have said lies in the run's folder until
all are. What it is not: the claims (`workbench/claims/`), or their rule (`core/claim.py`).
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from workbench.core.claim import FOUND, GAINS, SPECS, VERDICT, Claim, ClaimSpec, find, in_words, judged
from workbench.core.events import Event, Finished, Measured, Noted, Progress, Started, Table
from workbench.core.parts import Spec
from workbench.core.spec import TrainSpec, parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.inspect import NUMBERS
from workbench.jobs.registry import JOBS
from workbench.materials.models import resolve

QUICK = 10  # steps of a training run that all other work counts as in the progress [O]
DONE = "seeds.json"  # in the run's folder: what was said with each seed that is done
Said = dict[str, dict[str, float]]
"""By reference, the numbers that were said of a model."""


def claim(spec: ClaimSpec, folder: Path, workspace: Workspace) -> Iterator[Event]:
    """Check the claim; ends with its verdict in words, which is also the table `VERDICT`.

    In the progress a seed is done when it is kept, and not before: how far a check came that was stopped says what need not be done again.
    """
    wanted, lab = find(spec.claim), folder / "lab"
    shutil.rmtree(lab, ignore_errors=True)  # of a try that was cut off
    work, found = [jobs_of(wanted, seed) for seed in range(spec.seeds)], kept(folder, wanted)
    each = sum(size(job) for _, job in work[0])
    yield Started(each * spec.seeds, {"claim": wanted.says, "paper": wanted.paper, "seeds": spec.seeds})
    if found:
        yield from _known(wanted, found, each, spec.seeds)
    try:
        for seed in range(len(found), spec.seeds):
            said: Said = {}
            for done, title in _at_work(work[seed], Workspace(lab / f"seed-{seed}"), said):
                what = f"{title}, seed {seed + 1} of {spec.seeds}: step"
                yield Progress(each * seed + min(done, each - 1), each * spec.seeds, what)
            found.append({name: said.get(reference, {}) for name, reference in wanted.models.items()})
            keep(folder, wanted, found)
            yield from _known(wanted, found, each, spec.seeds)
    finally:
        shutil.rmtree(lab, ignore_errors=True)
    says = in_words(wanted, found)
    yield from (Noted(sentence) for sentence in says)
    (folder / DONE).unlink()
    yield Finished("finished", says[0])


def _known(claim: Claim, found: Sequence[Said], each: int, seeds: int) -> Iterator[Event]:
    """What the seeds that are done have brought."""
    yield from tables(claim, found)
    yield Progress(each * len(found), each * seeds, f"seed {len(found)} of {seeds}")


def keep(folder: Path, claim: Claim, found: Sequence[Said]) -> None:
    """Put down what was said so far, in place of what was there."""
    partial = folder / f"{DONE}.partial"
    partial.write_text(json.dumps({"claim": claim.fingerprint(), "said": found}), encoding="utf-8")
    partial.replace(folder / DONE)


def kept(folder: Path, claim: Claim) -> list[Said]:
    """What an earlier try of this check has found; nothing where the claim was another one then."""
    given = json.loads((folder / DONE).read_text(encoding="utf-8")) if (folder / DONE).exists() else {}
    return list(given["said"]) if given.get("claim") == claim.fingerprint() else []


def jobs_of(claim: Claim, seed: int) -> list[tuple[str, Spec]]:
    """What is done with a seed, in order, and what it is called.

    Raises:
        SpecError: this version knows one of the claim's settings no more.
    """
    titles = {reference: title for title, reference in claim.models.items()}
    made = [(titles.get(_reference(name, given), name), parse_spec(given)) for name, given in claim.specs(seed).items()]
    return [*made, *(("asking", parse_spec(dict(given))) for given in claim.asks)]


def _reference(name: str, given: Mapping[str, Any]) -> str:
    return f"{'run' if given['kind'] == 'train' else 'model'}:{name}"


def size(job: Spec) -> int:
    """Steps that the job counts as."""
    return job.steps if isinstance(job, TrainSpec) else QUICK


def _at_work(jobs: Sequence[tuple[str, Spec]], lab: Workspace, said: Said) -> Iterator[tuple[int, str]]:
    """(steps that are done, of what) as the work of a seed goes on; what it says of models is put down in `said`."""
    done = 0
    for title, job in jobs:
        yield from ((done + int(share * size(job)), title) for share in _shares(job, lab, said))
        done += size(job)


def _shares(job: Spec, lab: Workspace, said: Said) -> Iterator[float]:
    """The share that is done, as the job goes on."""
    given = job.model_dump(mode="json")
    folder = lab.run(given["name"] or "asking")
    (folder / "spec.yaml").write_text(job.to_yaml(), encoding="utf-8")
    labels = {resolve(model, lab).label: model for model in given.get("models", []) if isinstance(model, str)}
    for event in JOBS[given["kind"]].work(job, folder, lab):
        match event:
            case Measured():
                said.setdefault(f"run:{given['name']}", {}).update(event.values)
            case Table(name=name) if name == NUMBERS:
                for label, measure, value in event.rows:
                    said.setdefault(labels.get(label, label), {})[measure] = value
            case Progress() if event.total and (event.what == "step" or not isinstance(job, TrainSpec)):
                yield min(1.0, event.done / event.total)


def tables(claim: Claim, found: Sequence[Said]) -> Iterator[Table]:
    """What is known after so many seeds. `by` is how much the model is better, `needed` what it had to be more than."""
    result = judged(claim.expected, found)
    yield Table(VERDICT, ["verdict", "seeds with all of it", "seeds"], [[result.verdict, result.holds, len(found)]])
    measures = claim.measures()
    yield Table(FOUND, ["model", "seed", *(one.heading() for one in measures)], [
        [name, seed, *(_finite(measure.value(said[name])) for measure in measures)]
        for name in claim.models for seed, said in enumerate(found)
    ])  # fmt: skip
    yield Table(GAINS, ["expected", "seed", "by", "needed", "holds"], [
        [one.in_words(), f"seed {seed}", _finite(gain), one.by, gain > one.by]
        for one, gains in zip(claim.expected, result.gains, strict=True) for seed, gain in enumerate(gains)
    ])  # fmt: skip
    yield Table(SPECS, ["what", "kind", "spec"], written(claim))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def written(claim: Claim) -> list[list[Any]]:
    """Each spec as a line of YAML, with the first seed."""
    asked = {f"asking {number}".removesuffix(" 1"): given for number, given in enumerate(claim.asks, 1)}
    made = {**claim.specs(0), **asked}
    line = {"sort_keys": False, "allow_unicode": True, "default_flow_style": True, "width": math.inf}
    return [[name, given["kind"], yaml.safe_dump(_plain(given), **line).strip()] for name, given in made.items()]


def _plain(given: Any) -> Any:
    """Mappings and lists as YAML knows them."""
    if isinstance(given, Mapping):
        return {name: _plain(value) for name, value in given.items()}
    return [_plain(value) for value in given] if isinstance(given, list | tuple) else given
