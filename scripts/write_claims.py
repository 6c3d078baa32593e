"""Rewrite `docs/claims.md` from `assets/claims.json`: what papers claim of their methods, and what shows of it on the demo model.

    python scripts/write_claims.py

A claim without a record, and one whose specs or rule have changed since it was checked, stands on the page as not checked, with the command
that checks it. `tests/test_claims_doc.py` holds the page to what this writes.
"""

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "scripts")]
from write_performance import folded, markdown

from workbench.core import environment

environment.tell()  # before the libraries are imported

from workbench.core.claim import MARKS, Claim, claims
from workbench.core.method import discover, find
from workbench.core.outcome import NOT_CHECKED, RECORD, Outcome, outcomes, tally
from workbench.core.words import count

PAGE, SCRIPT = ROOT / "docs" / "claims.md", ROOT / "benchmarks" / "claims.py"
OPENING = """# What papers claim

What papers say of their methods, and what shows of it on the demo model, a Llama of 2.6 million parameters. Use it to see which claims you
can watch come true in about a minute, and what each check is worth: **it is no verdict about the papers.** The demo model has 6 small
blocks, and most papers speak of models a thousand times its size; what does not show here may well show there, and the other way
round. What was expected was written down from the paper before it was measured; what was changed after a first look is told where a claim
says what differs. Everything that was checked is listed.

A claim *shows here* if all that is expected holds with every seed, it *does not show here* if that is so with none, and else it is
*mixed*. In the tables stands the mean over the seeds. Check one yourself on its card in the Papers tab, or with
`python -m workbench claim NAME`.

This page is written by `python scripts/write_claims.py` from [the record](../assets/claims.json)."""


def written(record: Path = RECORD) -> str:
    """The page."""
    discover()
    known, kept = claims(), outcomes(record)
    there = {name: kept[name] for name, claim in known.items() if name in kept and kept[name].fits(claim)}
    parts = [OPENING, score(known, there)]
    for shelf in sorted({claim.shelf for claim in known.values()}):
        own = {name: claim for name, claim in known.items() if claim.shelf == shelf and name in there}
        parts += [f"## {shelf.capitalize()}", table(own, there)] if own else []
    parts += missing([name for name in known if name not in there], kept)
    return "\n\n".join([*parts, "## How they are checked", provenance(there), folded("The script's own words", docstring())]) + "\n"


def score(known: Mapping[str, Claim], there: Mapping[str, Outcome]) -> str:
    verdicts = [there[name].verdict if name in there else NOT_CHECKED for name in known]
    shown = verdicts.count("shows here")
    return f"**{shown} of {count(len(known), 'claim')} {'shows' if shown == 1 else 'show'} here.** In all: {tally(verdicts)}."


def table(own: Mapping[str, Claim], there: Mapping[str, Outcome]) -> str:
    lines = [["claim", "what it says", "here", "numbers", "what differs"]]
    for name, claim in own.items():
        found = there[name]
        paper = re.sub(r"^arXiv:(\S+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", claim.paper)
        verdict = f"**{found.verdict}**, {found.holds} of {count(found.seeds, 'seed')} ({found.date})"
        says = f"{claim.says} [{claim.mark}] {MARKS[claim.mark]}"
        lines.append([f"`{name}`<br>{find(claim.shelf, claim.method).title()}<br>{paper}", says, verdict, numbers(found), claim.differs])
    return markdown(lines).replace(" ---: |", " --- |")


def numbers(found: Outcome) -> str:
    """Each measure with what every model has."""
    return "<br>".join(
        f"{measure}: {'; '.join(f'{model} {mean}' for model, mean in by_model.items())}" for measure, by_model in found.means().items()
    )


def missing(names: list[str], kept: Mapping[str, Outcome]) -> list[str]:
    """What is not checked, and why, or nothing."""
    lines = [
        f"- `{name}`: {'changed since it was checked' if name in kept else NOT_CHECKED}: `python benchmarks/claims.py --only {name}`"
        for name in names
    ]
    return ["## Not checked\n\n" + "\n".join(lines)] if lines else []


def provenance(there: Mapping[str, Outcome]) -> str:
    versions = sorted({", ".join(f"{name} {number}" for name, number in found.versions.items()) for found in there.values()})
    seconds = sum(found.seconds for found in there.values())
    took = f" They took {count(round(seconds / 60), 'minute')} of processor time in all, with {' and with '.join(versions)}."
    return f"All again: `python benchmarks/claims.py`.{took if there else ''}"


def docstring() -> str:
    return ast.get_docstring(ast.parse(SCRIPT.read_text(encoding="utf-8"))) or ""


def main() -> None:
    PAGE.write_text(written(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
