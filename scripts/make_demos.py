"""Write the demo data sets `assets/demos/` from the pocket world, byte for byte the same on every machine.

    python scripts/make_demos.py [--out assets/demos]

Each comes in a format people bring: chat messages as JSONL, alpaca as JSON, prompt and completion as CSV. The specs
beside them (`*.yaml`) are written by hand.
"""

import argparse
import csv
import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from workbench.materials.world import Row, World

ROWS, KNOWN_ROWS = 500, 60


def write_messages(rows: list[Row], path: Path) -> None:
    lines = (json.dumps({"messages": row.messages()}, ensure_ascii=False) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def write_alpaca(rows: list[Row], path: Path) -> None:
    records = [{"instruction": row.prompt, "input": "", "output": row.answer} for row in rows]
    path.write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_csv(rows: list[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["prompt", "completion", "skill"])
        writer.writerows([row.prompt, row.answer, row.skill] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("assets/demos"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    world = World()
    write_messages(world.rows("tale", ROWS, seed=1, held_out=False), out / "quickstart.jsonl")
    write_alpaca(world.rows("doubles", ROWS, seed=2, held_out=False), out / "doubles.json")
    known = [row for skill in ("facts", "addition", "words") for row in world.rows(skill, KNOWN_ROWS, seed=3, held_out=True)]
    random.Random(4).shuffle(known)
    write_csv(known, out / "known.csv")


if __name__ == "__main__":
    main()
