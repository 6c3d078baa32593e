"""What papers claim of their methods, checked on the demo model: every claim of `workbench/claims/` with three seeds.

    python benchmarks/claims.py [--only NAME,NAME] [--seeds 3]

Each claim goes through the job that the Papers tab starts (`workbench/jobs/claim.py`), in a workspace of its own that is taken away in the
end. What came out is put by the claim's name into `assets/claims.json`, which ships with the program and is the only record: the cards show
it, and `python scripts/write_claims.py` writes `docs/claims.md` from it. A claim that was not asked for keeps what it has. Several
processes may write, one after the other: each reads, merges and replaces the file under a lock. Seconds are the processor's, and
not the clock's. What it is not: a measurement of speed, or a verdict about the papers; the demo model has 6 small blocks.
"""

import argparse
import fcntl
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from workbench.core import environment

environment.tell()  # before the libraries are imported

from workbench.core.claim import SEEDS, ClaimSpec, claims, find
from workbench.core.errors import WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.method import discover
from workbench.core.outcome import RECORD, Outcome, outcome
from workbench.core.workspace import Workspace
from workbench.jobs.registry import JOBS

PACKAGES = ("torch", "transformers", "peft")


def checked(name: str, seeds: int = SEEDS) -> Outcome:
    """Run the claim's check, which takes about a minute, and give what it found."""
    tables, says, began = dict[str, Table](), list[str](), time.process_time()
    with tempfile.TemporaryDirectory(prefix="claim-") as home:
        workspace = Workspace(Path(home))
        for event in JOBS["claim"].work(ClaimSpec.of(name, seeds), workspace.run("0001"), workspace):
            match event:
                case Table():
                    tables[event.name] = event
                case Noted():
                    says.append(event.text)
    versions = {package: version(package) for package in PACKAGES} | {"python": platform.python_version()}
    seconds = round(time.process_time() - began, 1)
    return outcome(find(name), [*tables.values()], says=says, seconds=seconds, date=date.today().isoformat(), versions=versions)


def put(name: str, found: Outcome, path: Path = RECORD) -> None:
    """Into the record by the claim's name. The file is replaced whole."""
    with locked(path.parent):
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        merged = dict(sorted((kept | {name: found.model_dump(mode="json")}).items()))
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(merged, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time; the lock is the folder's own, so that no file of it stays behind, and goes with its process."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of claims, with commas between them; all if not given")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args()
    discover()
    try:
        wanted = [(name, find(name)) for name in filter(None, map(str.strip, given.only.split(",")))] or [*claims().items()]
    except WorkbenchError as error:
        raise SystemExit(str(error)) from error
    for name, _ in wanted:
        found = checked(name, given.seeds)
        put(name, found)
        print("\n".join([f"{name}: {found.in_brief()}, {found.seconds:.0f} s of the processor", *found.says[1:]]), flush=True)


if __name__ == "__main__":
    run()
