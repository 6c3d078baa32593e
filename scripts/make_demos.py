"""Write the demo data sets `assets/demos/` from the pocket world, byte for byte the same on every machine.

    python scripts/make_demos.py [--out assets/demos]

Each comes in a format people bring: chat messages as JSONL, alpaca and sharegpt as JSON, prompt and completion as CSV, JSONL
and Parquet. What they show stands in `workbench/materials/world/demos.py`. The specs beside them (`*.yaml`) are written by hand.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))
from workbench.materials.world import demos
from workbench.materials.world.row import Row
from workbench.materials.world.skills import World


def messages(rows: Iterable[Row]) -> str:
    return lines({"messages": row.messages()} for row in rows)


def alpaca(rows: Iterable[Row]) -> str:
    return array({"instruction": row.prompt, "input": "", "output": row.answer} for row in rows)


def sharegpt(rows: Iterable[Row]) -> str:
    return array({"conversations": [{"from": "human", "value": row.prompt}, {"from": "gpt", "value": row.answer}]} for row in rows)


def lines(records: Iterable[dict]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def array(records: Iterable[dict]) -> str:
    return json.dumps(list(records), ensure_ascii=False, indent=1) + "\n"


def table(path: Path, head: Sequence[str], rows: Iterable[Sequence]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def parquet(path: Path, rows: Sequence[Row]) -> None:
    columns = {"prompt": [row.prompt for row in rows], "completion": [row.answer for row in rows]}
    pq.write_table(pa.table(columns), path, compression="snappy")


def messy(out: Path, found: list[demos.Flawed]) -> None:
    """The rows as they are found, and beside them what is wrong with which, by line number from 1."""
    records = ({"instruction": flawed.row.prompt, "input": "", "output": flawed.row.answer} for flawed in found)
    (out / "messy.jsonl").write_text(lines(records), encoding="utf-8")
    line_of = {id(flawed.row): line for line, flawed in enumerate(found, 1) if not flawed.flaw}
    truth = ((line, flawed.flaw or "good", line_of.get(id(flawed.of), "")) for line, flawed in enumerate(found, 1))
    table(out / "truth" / "messy.csv", ("line", "flaw", "copy_of_line"), truth)


def write(out: Path) -> None:
    (out / "truth").mkdir(parents=True, exist_ok=True)
    world = World()
    (out / "quickstart.jsonl").write_text(messages(demos.quickstart(world)), encoding="utf-8")
    (out / "skill_a.json").write_text(alpaca(demos.skill_a(world)), encoding="utf-8")
    (out / "skill_b.json").write_text(sharegpt(demos.skill_b(world)), encoding="utf-8")
    table(out / "known.csv", ("prompt", "completion", "skill"), ((row.prompt, row.answer, row.skill) for row in demos.known(world)))
    graded = ((row.prompt, row.answer, grade) for row, grade in demos.new_facts(world))
    table(out / "new_facts.csv", ("prompt", "completion", "grade"), graded)
    parquet(out / "entangled.parquet", demos.entangled(world))
    tasks = ({"prompt": row.prompt, "completion": row.answer, "task": row.skill} for row in demos.imbalanced(world))
    (out / "imbalanced.jsonl").write_text(lines(tasks), encoding="utf-8")
    messy(out, demos.messy(world))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("assets/demos"))
    write(parser.parse_args().out)
