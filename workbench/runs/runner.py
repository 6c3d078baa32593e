"""The background threads that work: one a lane, taking one event from each live job in turn.

A job is a generator; pausing is not asking it, stopping is closing it (its `finally` saves a checkpoint), and a job that
raises ends as a failed run while the others go on. Holds the one broad `except` of the project. Knows no job by name,
no torch and no page.
"""

import threading
import traceback
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from typing import Literal

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Status
from workbench.core.job import Job
from workbench.core.parts import Spec
from workbench.core.spec import parse_spec
from workbench.core.workspace import Workspace
from workbench.runs.failures import sentence
from workbench.runs.live import Entry, Live, Watch
from workbench.runs.records import Run
from workbench.runs.store import Store

Work = Generator[Event, None, None]
ARTIFACTS: tuple[Literal["checkpoint", "adapter", "model"], ...] = ("checkpoint", "adapter", "model")
RESUMABLE = ("stopped", "failed", "interrupted")


class Runner:
    """Runs jobs from specs. All methods may be called from any thread and return at once, save `wait` and `close`.

    A lane works on at most one job of a kind at a time; the next of that kind waits, while another kind takes turns with it.
    """

    def __init__(self, store: Store, workspace: Workspace, jobs: Mapping[str, Job]):
        self._store, self._workspace, self._jobs = store, workspace, jobs
        self._changed = threading.Condition()
        self._entries: dict[str, Entry] = {}  # in the order in which they were submitted
        self._closing = False
        self._threads = [threading.Thread(target=self._work, args=(lane,), name=f"lane-{lane}", daemon=True) for lane in ("device", "host")]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What a person can do.

    def submit(self, spec: Spec) -> str:
        """Queue a new run and give its id."""
        given = spec.model_dump(mode="json")
        kind, name = given["kind"], given["name"] or given["kind"]
        job = self._job(kind)
        run = self._store.create(kind, name, given, above=self._highest_folder())
        self._enter(Entry(run, spec, job, kind, name))
        return run

    def resume(self, run: str) -> str:
        """The same run goes on from what lies in its folder; only one that was stopped, failed or was interrupted can."""
        found = self._settled(run)
        entry = Entry(found.id, parse_spec(found.spec), self._job(found.kind), found.kind, found.name)
        if found.id not in self._entries and found.status not in RESUMABLE:
            raise WorkbenchError(f"Run {found.id} is {found.status}, so there is nothing to resume. Start a new run from its spec instead.")
        self._enter(entry)
        return found.id

    def pause(self, run: str) -> None:
        """Ask no more of a running job until `play`; it keeps what it holds."""
        self._switch(run, "running", "paused")

    def play(self, run: str) -> None:
        self._switch(run, "paused", "running")

    def stop(self, run: str) -> None:
        """End the run after the event it is working on; it saves what it has. A queued one never begins."""
        with self._changed:
            entry = self._entry(run)
            entry.ending = entry.ending or Finished("stopped", "" if entry.work else "It was stopped before it began.")
            self._changed.notify_all()

    def sooner(self, run: str) -> None:
        """A queued run changes places with the one of its kind that waits just before it."""
        with self._changed:
            entry = self._entry(run)
            if entry.status != "queued":
                raise WorkbenchError(f"Run {run} is {entry.status}; only a queued run can be moved.")
            waiting = [name for name, other in self._entries.items() if other.kind == entry.kind and other.status == "queued"]
            place = waiting.index(run)
            if place == 0:
                raise WorkbenchError(f"Run {run} is the next already.")
            other = waiting[place - 1]
            swapped = {run: other, other: run}
            self._entries = {name: self._entries[name] for name in (swapped.get(name, name) for name in list(self._entries))}

    def live(self) -> list[Live]:
        """Every run that is queued, running or paused, in the order in which they were submitted."""
        with self._changed:
            return [entry.line() for entry in self._entries.values()]

    def watch(self, run: str) -> Iterator[Event]:
        """All events from this call on, ending after `Finished`. The first one who watches also hears the beginning.

        A run that is over gives its `Finished` alone.
        """
        with self._changed:
            if run in self._entries:
                return self._entries[run].watch()
        over = self._settled(run)
        return Watch([Finished(over.status, over.message, over.traceback)])

    def wait(self, run: str, timeout: float | None = None) -> Run:
        """Wait until the run is over (at most `timeout` seconds) and give it as it stands then."""
        with self._changed:
            self._changed.wait_for(lambda: run not in self._entries, timeout)
        return self._settled(run)

    def close(self) -> None:
        """Stop every run so that it saves, and end the threads. Calling it again does nothing."""
        with self._changed:
            self._closing = True
            for entry in self._entries.values():
                entry.ending = entry.ending or Finished("stopped", "The workbench was closed. Resume the run to go on.")
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    # Bookkeeping.

    def _job(self, kind: str) -> Job:
        if kind not in self._jobs:
            raise WorkbenchError(f"There is no job of kind {kind!r}; there are: {', '.join(sorted(self._jobs))}.")
        return self._jobs[kind]

    def _highest_folder(self) -> int:
        """Folders outlive a database that was lost or put aside; a new run must not find another one's checkpoint in its own."""
        folders = (self._workspace.home / "runs").glob("[0-9]*")
        return max((int(folder.name) for folder in folders if folder.name.isdecimal()), default=0)

    def _enter(self, entry: Entry) -> None:
        with self._changed:
            if self._closing:
                raise WorkbenchError("The workbench is shutting down. Start it again to go on.")
            if entry.id in self._entries:
                raise WorkbenchError(f"Run {entry.id} is already at work.")
            self._store.mark(entry.id, "queued")
            self._entries[entry.id] = entry
            self._changed.notify_all()

    def _entry(self, run: str) -> Entry:
        if run not in self._entries:
            raise WorkbenchError(f"Run {run} is not at work, so there is nothing to pause, continue or stop.")
        return self._entries[run]

    def _switch(self, run: str, before: Status, after: Status) -> None:
        verb = "paused" if after == "paused" else "continued"
        with self._changed:
            entry = self._entry(run)
            if entry.status != before:
                raise WorkbenchError(f"Run {run} is {entry.status}; only a {before} run can be {verb}.")
            entry.set_status(after)
            self._store.mark(run, after)
            self._changed.notify_all()
        self._written()

    def _settled(self, run: str) -> Run:
        """The run as the database has it once all that was said is written; if that cannot be, as far as it is."""
        self._written()
        return self._store.run(run)

    def _written(self) -> None:
        with suppress(WorkbenchError):  # a full disk; the store has said so, and tries again
            self._store.flush()

    # The threads.

    def _work(self, lane: str) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._turn(lane) or self._closing)
                turn = self._turn(lane)
                if not turn and self._closing:
                    return
            for entry in turn:
                self._advance(entry)

    def _turn(self, lane: str) -> list[Entry]:
        """Whom to ask now: the first of each kind unless it is paused, and all that are to end."""
        turn, kinds = [], set()
        for entry in self._entries.values():
            if entry.job.lane != lane:
                continue
            first = entry.kind not in kinds
            kinds.add(entry.kind)
            if entry.ending or (first and entry.status != "paused"):
                turn.append(entry)
        return turn

    def _advance(self, entry: Entry) -> None:
        try:
            if entry.ending:
                self._end(entry)
            elif entry.status != "paused":  # it may have been paused while another job had its turn
                self._ask(entry)
        except (Exception, SystemExit) as error:  # whatever a job or a library throws, the other runs go on
            if entry.ending is None or entry.ending.status != "failed":
                entry.ending = Finished("failed", sentence(error, entry.kind == "train"), traceback.format_exc())

    def _ask(self, entry: Entry) -> None:
        """One event of the job; how it ends is only noted here, so that its generator is closed first."""
        work = entry.work or self._begin(entry)
        try:
            event = next(work)
        except StopIteration:
            entry.ending = Finished("finished")
            return
        if isinstance(event, Finished):
            entry.ending = event
        else:
            self._tell(entry, event)

    def _begin(self, entry: Entry) -> Work:
        folder = self._workspace.run(entry.id)
        partial = folder / "spec.yaml.partial"
        partial.write_text(entry.spec.to_yaml(), encoding="utf-8")
        partial.replace(folder / "spec.yaml")
        self._store.mark(entry.id, "running")
        with self._changed:
            entry.set_status("running")
        entry.work = entry.job.work(entry.spec, folder, self._workspace)
        return entry.work

    def _end(self, entry: Entry) -> None:
        """Close the generator (its `finally` saves; what it raises makes a failure of it), then say how the run ended."""
        work, entry.work = entry.work, None
        if work:
            self._written()  # the job may keep a checkpoint now, and what that holds must be on record
            work.close()
        ending = entry.ending or Finished("finished")
        try:
            for made in self._found(entry) if ending.status == "stopped" else []:
                self._tell(entry, made)
            self._store.append(entry.id, ending)
        finally:
            with self._changed:
                self._entries.pop(entry.id, None)
                entry.hear(ending)
                self._changed.notify_all()

    def _found(self, entry: Entry) -> list[Made]:
        """What the closing job left in its folder without a chance to say so."""
        folder, step = self._workspace.run(entry.id), entry.standing.step
        here = [(what, folder / what) for what in ARTIFACTS]
        return [
            Made(what, str(path), step)
            for what, path in here
            if entry.made.get(path.resolve(), -1) < step and path.is_dir() and any(file.suffix != ".partial" for file in path.iterdir())
        ]

    def _tell(self, entry: Entry, event: Event) -> None:
        self._store.append(entry.id, event)
        if isinstance(event, Made):
            self._written()  # before the job goes on and shows what it made
        with self._changed:
            entry.hear(event)
