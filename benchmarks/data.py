"""A million rows brought in, looked at and paged through, beside pandas and HF datasets.

    python benchmarks/data.py [--rows 1000000] [--rounds 1] [--home DIR] [--out FILE]

The rows are generated (`rows_of` below; the same for the same seed): alpaca JSON lines of about 1.5 kB, of which 5 % are exact copies of an
earlier row, 5 % are copies with 3 % of their words replaced, and 2 % hold an address of e-mail. Each contender opens the file in a process
of its own, from the first byte to something that can be paged: the workbench by `jobs.ingest.ingest` (a copy of the original, canonical
rows with their places, rejects), pandas by `read_json(lines=True)`, HF datasets by `load_dataset("json")` with an empty cache. A contender
that is not installed is left out, and said to be so. Told are CPU seconds of user and system, wall seconds, and the process's peak of
resident memory; then the median and the slowest of fifty pages of 20 rows at random places, read with a warm file cache. Then, in another
process, near duplicates are looked for in what the workbench keeps, and how many of the planted copies are found.

The goals are for a million rows: ingest 60 CPU seconds and 1.5 GB at most, a page 50 ms, near duplicates 75 CPU seconds and 3 GB at most
and 94 of a hundred planted ones found. How far it is goes to stderr, the figures to stdout and to the file.
"""

import argparse
import itertools
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
RESULT = ROOT / "benchmarks" / "results" / "data.json"
GOALS = {
    "ingest CPU seconds": 60, "ingest peak GB": 1.5, "page ms": 50, "near duplicates CPU seconds": 75, "near duplicates peak GB": 3,
    "near duplicates found": 0.94,
}  # fmt: skip
KEPT, NEAR = "million", "near duplicates"
PAGES, SHOWN = 50, 20
OFTEN, EVERY = 100_000, 5.0  # rows and seconds between two lines on stderr
COPIED, NEARLY, ADDRESSED = 0.05, 0.05, 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--home", type=Path, help="where the generated file is kept for another time; a temporary folder if not given")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--measure", nargs=3, metavar=("CONTENDER", "FILE", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        contender, file, folder = given.measure
        found = near(Path(folder)) if contender == NEAR else measured(CONTENDERS[contender], Path(file), Path(folder))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = given.home or Path(scratch)
        home.mkdir(parents=True, exist_ok=True)
        file = home / f"rows-{given.rows}.jsonl"
        if not file.exists():
            write(file, given.rows)
        rounds = []
        for number in range(1, given.rounds + 1):
            say(f"round {number} of {given.rounds}")
            rounds.append(one_round(file, Path(scratch) / str(number)))
        about = {
            "what": f"{given.rows:,} generated alpaca rows ({file.stat().st_size / 1e9:.2f} GB) opened and paged; medians of the rounds",
            "goals, for a million rows": GOALS,
            "rounds": given.rounds,
            "contenders": {name: medians([one[name] for one in rounds]) for name in rounds[0]},
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
            "versions": {name: found for name in ("pyarrow", "pandas", "datasets") if (found := installed(name))},
            "date": date.today().isoformat(),
        }
    given.out.write_text(json.dumps(about, indent=1) + "\n")
    print(json.dumps(about["contenders"], indent=1))


# The rows.


def write(file: Path, rows: int) -> None:
    partial = file.with_suffix(".partial")
    with partial.open("w") as stream:
        for number, row in enumerate(rows_of(rows)):
            stream.write(json.dumps(row) + "\n")
            if number % OFTEN == 0:
                say(f"  rows generated: {number:,} of {rows:,}")
    partial.rename(file)


def rows_of(rows: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """The rows of the benchmark, with what was planted in the column `planted`: "", "copy:N" or "near:N" of row N, "mail"."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvwz", k=draw.randint(2, 9))) for _ in range(20_000)]
    often = list(itertools.accumulate(1 / (place + 3) for place in range(len(words))))  # as in a language, few words are most of the text
    earlier: list[tuple[int, dict[str, str]]] = []  # what may be copied, some of them, so that memory stays small

    def text(count: int) -> str:
        return " ".join(draw.choices(words, cum_weights=often, k=count))

    for number in range(rows):
        chance = draw.random()
        if earlier and chance < COPIED + NEARLY:
            place, row = draw.choice(earlier)
            near = chance >= COPIED
            yield {
                **row,
                "output": replaced(row["output"], words, draw) if near else row["output"],
                "planted": f"{'near' if near else 'copy'}:{place}",
            }
            continue
        row = {"instruction": text(draw.randint(8, 30)), "input": "", "output": text(draw.randint(80, 380)), "planted": ""}
        if chance > 1 - ADDRESSED:
            row = {**row, "output": f"{row['output']} {draw.choice(words)}@{draw.choice(words)}.org", "planted": "mail"}
        if len(earlier) < 20_000:
            earlier.append((number, row))
        elif draw.random() < 0.05:
            earlier[draw.randrange(len(earlier))] = (number, row)
        yield row


def replaced(text: str, words: list[str], draw: random.Random) -> str:
    """The text with 3 % of its words others, at least one."""
    parts = text.split(" ")
    for place in draw.sample(range(len(parts)), max(1, round(0.03 * len(parts)))):
        parts[place] = draw.choice(words)
    return " ".join(parts)


# The contenders: each returns how a page of rows is read from what it has opened.

Pager = Callable[[int], Any]


def workbench(file: Path, folder: Path) -> Pager:
    from workbench.core.workspace import Workspace
    from workbench.jobs.ingest import ingest
    from workbench.materials.corpus import load

    home = Workspace(folder)
    told(ingest(file, KEPT, home))
    corpus = load(KEPT, home)
    return lambda offset: corpus.examples[offset : offset + SHOWN]


def with_pandas(file: Path, folder: Path) -> Pager:
    import pandas

    frame = pandas.read_json(file, lines=True)
    return lambda offset: frame.iloc[offset : offset + SHOWN].to_dict("records")


def with_datasets(file: Path, folder: Path) -> Pager:
    import datasets

    rows = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(folder))
    return lambda offset: rows[offset : offset + SHOWN]


CONTENDERS = {"workbench": workbench, "pandas": with_pandas, "datasets": with_datasets}


# The clock.


def one_round(file: Path, scratch: Path) -> dict[str, dict[str, float] | None]:
    """All contenders, each from a folder of its own; the near duplicates are looked for in the workbench's."""
    found = {}
    for name in (*CONTENDERS, NEAR):
        say(f" {name}")
        folder = scratch / ("workbench" if name == NEAR else name)
        folder.mkdir(parents=True, exist_ok=True)
        found[name] = apart(name, file, folder)
        say(f" {name}: {'not installed' if found[name] is None else found[name]}")
    shutil.rmtree(scratch)
    return found


def apart(name: str, file: Path, folder: Path) -> dict[str, float] | None:
    """The figures of one contender, from a process of its own; None where it is not installed."""
    if name not in ("workbench", NEAR) and not installed(name):
        return None
    found = subprocess.run([sys.executable, __file__, "--measure", name, str(file), str(folder)], stdout=subprocess.PIPE, text=True)
    if found.returncode:
        raise SystemExit(f"{name} failed; what it said stands above.")
    return json.loads(found.stdout.splitlines()[-1])


def measured(contender: Callable[[Path, Path], Pager], file: Path, folder: Path) -> dict[str, float]:
    began, busy = time.perf_counter(), time.process_time()
    page = contender(file, folder)
    opened = {"CPU seconds": time.process_time() - busy, "wall seconds": time.perf_counter() - began, "peak GB": peak()}
    draw, took = random.Random(1), []
    rows = sum(1 for _ in file.open("rb"))
    for _ in range(PAGES):
        offset, before = draw.randrange(max(1, rows - SHOWN)), time.perf_counter()
        assert len(page(offset)) > 0
        took.append(1000 * (time.perf_counter() - before))
    return {**opened, "page ms": statistics.median(took), "slowest page ms": max(took), "peak GB, pages too": peak()}


def near(folder: Path) -> dict[str, float]:
    """Near duplicates among the rows of the workspace in `folder`; a planted copy counts where it and its row end in one group."""
    from workbench.core.workspace import Workspace
    from workbench.materials.around import Around
    from workbench.materials.corpus import load
    from workbench.methods.selectors.near_duplicates import NearDuplicates

    examples = load(KEPT, Workspace(folder)).examples
    began, busy = time.perf_counter(), time.process_time()
    kept = told(NearDuplicates(compare="answer").keep(examples, Around(Workspace(folder)))).kept
    took = {"CPU seconds": time.process_time() - busy, "wall seconds": time.perf_counter() - began, "peak GB": peak()}
    planted = [str(row.meta["planted"]).partition(":")[0] for row in examples]
    found = {kind: [not stays for stays, own in zip(kept, planted, strict=True) if own == kind] for kind in ("near", "copy")}
    dropped = sum(not stays for stays in kept)
    shares = {f"{kind} copies found": sum(gone) / max(1, len(gone)) for kind, gone in found.items()}
    return took | shares | {"rows dropped": dropped, "rows planted": sum(map(len, found.values()))}


def told(work: Generator[Any, None, Any]) -> Any:
    """What the work returns; how far it is goes to stderr now and then."""
    from workbench.core.events import Progress

    last = time.monotonic()
    try:
        while True:
            event = next(work)
            if isinstance(event, Progress) and time.monotonic() - last > EVERY:
                last = time.monotonic()
                say(f"  {event.what}: {event.done:,} of {event.total:,}")
    except StopIteration as end:
        return end.value


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def medians(found: list[dict[str, float] | None]) -> dict[str, float] | None:
    if found[0] is None:
        return None
    return {name: round(statistics.median(one[name] for one in found if one), 3) for name in found[0]}


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
