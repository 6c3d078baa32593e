"""Long work that leaves no run: a generator of events in a thread of its own, which every page can follow and stop.

What it is: what the runner is to runs, for work whose whole trace is what it makes, such as a file that is brought in. One at a time.
What it is not: it is written down nowhere and cannot be paused. When the program ends, the work is stopped, and tidies up as it does then.
"""

import atexit
import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress
from workbench.runs.failures import sentence

PROBLEMS = (WorkbenchError, OSError, MemoryError, RuntimeError)  # what work ends with that can be told; others are told by the log
Work = Generator[Event, None, None]


@dataclass(frozen=True)
class Told:
    """How the latest work stands. `number` counts what was begun, 0 for nothing yet; `said` are its notes, `error` why it failed."""

    number: int = 0
    name: str = ""
    status: Literal["idle", "running", "finished", "stopped", "failed"] = "idle"
    progress: Progress | None = None
    said: tuple[str, ...] = ()
    made: str = ""
    error: str = ""


class Errand:
    """All methods may be called from any thread and return at once, save `wait` and `close`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._told, self._stopping = Told(), False
        self._thread: threading.Thread | None = None

    def start(self, name: str, work: Work) -> int:
        """Begin the work, and give its number.

        Raises:
            WorkbenchError: other work is not over yet.
        """
        with self._changed:
            if self._told.status == "running":
                raise WorkbenchError(f"{self._told.name!r} is still being worked on. Wait until it is there, or stop it first.")
            self._told, self._stopping = Told(self._told.number + 1, name, "running"), False
            self._thread = threading.Thread(target=self._do, args=(work,), name=f"errand-{name}", daemon=True)
            self._thread.start()
            atexit.register(self.close)
            return self._told.number

    def stop(self) -> None:
        """End the work after the event it is at; what it has half done it takes away itself."""
        self._stopping = True

    def told(self) -> Told:
        return self._told

    def wait(self, seconds: float) -> Told:
        """How it stands when it is over, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._told.status != "running", seconds)
            return self._told

    def close(self) -> None:
        """Stop the work and wait until it has tidied up. Calling it again does nothing."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _do(self, work: Work) -> None:
        status, error = "failed", "Something went wrong that nobody foresaw. The terminal in which the program runs shows where."
        try:
            for event in work:
                self._hear(event)
                if self._stopping:
                    break
            status, error = "finished" if self._told.made else "stopped", ""
        except PROBLEMS as problem:
            error = str(problem) if isinstance(problem, WorkbenchError) else sentence(problem)
        finally:
            work.close()  # before it counts as over: what is half done is gone then
            atexit.unregister(self.close)
            with self._changed:
                self._told = replace(self._told, status=status, error=error)  # type: ignore[arg-type]
                self._changed.notify_all()

    def _hear(self, event: Event) -> None:
        match event:
            case Progress():
                self._told = replace(self._told, progress=event)
            case Noted():
                self._told = replace(self._told, said=(*self._told.said, event.text))
            case Made():
                self._told = replace(self._told, made=event.path)
