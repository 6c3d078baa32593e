"""One thread that writes, fed by a queue: what is put in is written together every `every` seconds, in order.

Knows nothing of databases: it is given the function that writes a batch and the errors that mean "not now". A batch that
could not be written stays in the queue and is tried again, so that a full disk costs patience and no numbers.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from workbench.core.errors import WorkbenchError

IDLE = 60.0  # seconds without anything to write after which `tidy` is called


@dataclass(frozen=True)
class Order:
    """Something to be done between batches, after all that was put in before it, and answered."""

    action: Callable[[], Any]
    answer: Future[Any] = field(default_factory=Future)


class Writer:
    """`put` returns at once; `order` waits for its answer; `close` writes what is left and ends the thread.

    write: a list of items → written, all or nothing. failures: the errors that leave the batch in the queue.
    warn: told once when writing begins to fail, and once when it works again.
    """

    def __init__(
        self,
        write: Callable[[list[Any]], None],
        failures: tuple[type[Exception], ...],
        warn: Callable[[str], None],
        tidy: Callable[[], None],
        every: float = 0.25,
    ):
        self._write, self._failures, self._warn, self._tidy, self._every = write, failures, warn, tidy, every
        self._changed = threading.Condition()
        self._queue: list[Any] = []
        self._hurry = self._closing = self._failing = False
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def put(self, items: list[Any]) -> None:
        """Queue `items`. The thread is woken for the first one only: waking it for each would cost the training thread."""
        with self._changed:
            self._refuse_when_closed()
            if not self._queue:
                self._changed.notify_all()
            self._queue.extend(items)

    def order(self, action: Callable[[], Any]) -> Any:
        """The answer of `action`, done by the writing thread after everything that was put in before."""
        order = Order(action)
        with self._changed:
            self._refuse_when_closed()
            self._queue.append(order)
            self._hurry = True
            self._changed.notify_all()
        return order.answer.result()

    def close(self) -> None:
        """Write what is left and end the thread; calling it again does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _refuse_when_closed(self) -> None:
        if self._closing:
            raise WorkbenchError("The database is closed, because the workbench is shutting down. Start it again to go on.")

    def _work(self) -> None:
        try:
            self._write_on()
        finally:  # of an error that nobody foresaw, too: whoever waits or comes later must hear of it, and not wait for ever
            with self._changed:
                self._closing, left, self._queue = True, self._queue, []
            for item in left:
                if isinstance(item, Order) and not item.answer.done():
                    item.answer.set_exception(_gone())

    def _write_on(self) -> None:
        while True:
            with self._changed:
                awake = self._changed.wait_for(lambda: self._queue or self._closing, timeout=IDLE)
                self._changed.wait_for(lambda: self._hurry or self._closing, timeout=self._every if awake else 0)
                batch, self._hurry = list(self._queue), False
                last = self._closing
            if not awake:
                self._tidy()
            left = self._handle(batch)
            with self._changed:
                self._queue[: len(batch)] = left
            if last:
                break
        if left:
            self._warn(f"{len(left)} events could not be written before the database was closed, and are lost.")

    def _handle(self, batch: list[Any]) -> list[Any]:
        """Write the batch and carry out its orders, in order; give back what has to be tried again."""
        waiting: list[Any] = []
        for item in batch:
            if not isinstance(item, Order):
                waiting.append(item)
            elif error := self._try_write(waiting):
                item.answer.set_exception(error)
            else:
                waiting = []
                self._carry_out(item)
        return waiting if self._try_write(waiting) else []

    def _try_write(self, items: list[Any]) -> WorkbenchError | None:
        if not items:
            return None
        try:
            self._write(items)
        except self._failures as error:
            told = _not_written(error)
            if not self._failing:
                self._warn(str(told))
            self._failing = True
            return told
        if self._failing:
            self._warn("The database can be written again; nothing that was measured meanwhile is lost.")
        self._failing = False
        return None

    def _carry_out(self, order: Order) -> None:
        try:
            answer = order.action()
        except WorkbenchError as error:
            order.answer.set_exception(error)
        except self._failures as error:
            order.answer.set_exception(_not_written(error))
        else:
            order.answer.set_result(answer)


def _gone() -> WorkbenchError:
    return WorkbenchError(
        "The database has stopped working; the terminal in which the program runs shows where. Start the workbench again."
    )


def _not_written(error: Exception) -> WorkbenchError:
    return WorkbenchError(
        f"The database cannot be written ({' '.join(str(error).split())}). The numbers are kept in memory and written as soon as it can "
        "be. If the disk is full, free some space."
    )
