"""Rewrite `docs/performance.md` and its pictures from `benchmarks/results/`: what was measured, how, and whether the goals are reached.

    python scripts/write_performance.py

A result that is not there stands on the page as not measured, with the command that measures it. How it is measured is the
benchmark's own docstring. `tests/test_performance_doc.py` holds the page to what this writes.
"""

import ast
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from performance_entries import CPU, GPU, QUALITY, ROOT, Entry
from performance_tables import Goal, Result, Table

PAGE, PICTURES = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance"


OPENING = """# Performance

What the workbench costs in time and memory, beside what people use today. Use it to see what to expect of a machine like yours, and to
see where the workbench is not as fast as it wants to be: every goal was set before it was measured, and one that is missed is said
to be missed. Absolute times belong to the machine that is named with them. What travels is the ratios.

This page is written by `python scripts/write_performance.py` from the files in [`benchmarks/results/`](../benchmarks/results). Each
section ends with the command that measures it again."""
RULES = """## How we measure

- **In turns.** What is compared runs in the same session on the same machine, to and fro, and ratios are taken within a round. Told are
  the median and, where there were several rounds, in brackets the least and the most.
- **The same work.** The same rows, starting weights, trained parameters, optimizer and recomputation. Where number formats differ, both are
  shown.
- **Real tokens.** Padding is not counted as work.
- **It must train.** A run whose gradient is zero is fast and worthless. A speed counts only if the same run shows a gradient, parameters
  that have moved, and a loss that has fallen; they stand beside it.
- **Right before fast.** Kernels and heads are held against float64 on the same numbers first. One that is wrong is shown as wrong, without
  a speed.
- **Against the best rival.** Where a plain remedy exists, such as putting rows of like length together, it is measured too.
- **CPU time beside wall time**, because two cores are shared with whatever else runs.
- **What was not measured is not here.** It is listed as not measured."""


# Writing.


def written() -> dict[Path, str]:
    """Every file of the page with what belongs into it."""
    found, parts = dict[Path, str](), []
    for heading, entries in (("## On a CPU", CPU), ("## On one GPU", GPU)):
        parts += [heading, *(section(entry, found) for entry in entries if entry.result()), *missing(entries)]
    parts += [RULES, "## What methods do\n\nNot speed: what methods do to the demo model, a Llama of 2.6 million parameters."]
    parts += [*(section(entry, found) for entry in QUALITY if entry.result()), *missing(QUALITY)]
    return {PAGE: "\n\n".join([OPENING, scoreboard(), *parts]) + "\n"} | found


def scoreboard() -> str:
    """All goals in one table, and how many are reached."""
    lines, reached = [["goal", "bound", "found", ""]], list[bool]()
    for entry in (*CPU, *GPU, *QUALITY):
        result = entry.result()
        for goal in entry.goals(result) if result else ():
            reached.append(goal.reached)
            lines.append([f"[{goal.what}](#{anchor(entry)})", goal.bound, goal.found, verdict(goal)])
    to_come = len({entry.file for entry in (*CPU, *GPU, *QUALITY) if not entry.result()})
    told = f"Goals reached: {sum(reached)} of {len(reached)} measured. Results not measured yet: {to_come}."
    return f"## All goals\n\n{told}\n\n{markdown(lines)}"


def section(entry: Entry, pictures: dict[Path, str]) -> str:
    """A result that is there; its picture is put among the pictures."""
    result = entry.result()
    assert result
    parts = [f"### {entry.title}", entry.says]
    if entry.picture:
        path = PICTURES / f"{entry.file}.svg"
        pictures[path] = entry.picture(result)
        parts.append(f"![{entry.title}](performance/{path.name})")
    table = markdown(entry.table(result))
    parts.append(folded("The table", table) if entry.long else table)
    goals = list(entry.goals(result))
    parts += ["\n".join(f"- {goal.what}: {goal.found}. Goal: {goal.bound}, {verdict(goal)}." for goal in goals)] if goals else []
    return "\n\n".join([*parts, provenance(entry, result), how(entry)])


def how(entry: Entry) -> str:
    """How it was measured; what one script measures says so once."""
    first = next(one for one in (*CPU, *GPU, *QUALITY) if one.script == entry.script and one.result())
    if first is not entry:
        return f"How it is measured: see [{first.title}](#{anchor(first)})."
    return folded("How it is measured", docstring(entry.script))


def missing(entries: list[Entry]) -> list[str]:
    """A list of what is still to be measured, or nothing."""
    found = {entry.file: entry for entry in reversed(entries) if not entry.result()}
    lines = [f"- {entry.title}: `python {entry.run}`" for entry in reversed(found.values())]
    return ["### Not measured yet\n\n" + "\n".join(lines)] if lines else []


def verdict(goal: Goal) -> str:
    return "reached" if goal.reached else "**missed**"


def provenance(entry: Entry, result: Result) -> str:
    """When, where, with what, and how to do it again."""
    versions = result.get("versions") or {name: result[name] for name in ("torch", "python") if name in result}
    told = ", ".join(f"{name} {number}" for name, number in versions.items())
    where = f"Measured {result['date']} on {result['machine']}{f', with {told}' if told else ''}."
    return f"{where} Again: `python {entry.run}`. [The numbers](../benchmarks/results/{entry.file}.json)"


def docstring(script: Path) -> str:
    """What a benchmark says of itself; its commands stand in it indented."""
    found = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert found, f"{script.name} does not say what it measures"
    return found


def folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def markdown(table: Table) -> str:
    head, *lines = [[cell.replace("|", "\\|") for cell in line] for line in table]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] + ["---:"] * (len(head) - 1), *lines])


def anchor(entry: Entry) -> str:
    """Of a section's title as GitHub makes it."""
    return "".join(letter for letter in entry.title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def main() -> None:
    for path, text in written().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
