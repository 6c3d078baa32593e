"""Work that comes in independent pieces, done by some threads side by side, each on one core, and told of in one stream.

For what is many short operations on tensors: torch's own threads wait for each other at every one of them, these never do. Pausing is
not asking for what they tell, as everywhere: they wait when it is not taken. Knows nothing of what the work is.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
MOST = 8  # threads; more would wait for the memory and the disk
_AHEAD = 64  # what may have been told and not been taken yet
_OVER = object()  # what a thread says last


def side_by_side(pieces: Iterable[Callable[[], Iterator[T]]], threads: int | None = None) -> Iterator[T]:
    """Run the generators that `pieces` make, one after the other in each thread; yields what they yield, as it comes.

    The first error ends all of them and is raised here. When this generator is closed they end where they are, before it returns.
    """
    waiting, taking = iter(pieces), threading.Lock()
    told: queue.Queue[object] = queue.Queue(_AHEAD)
    ended = threading.Event()

    def work() -> None:
        try:
            while not ended.is_set():
                with taking:
                    piece = next(waiting, None)
                if piece is None:
                    return
                with _ending(ended), closing(piece()) as steps:  # type: ignore[type-var]
                    for step in steps:
                        told.put(step)
                        if ended.is_set():
                            break
        finally:
            told.put(_OVER)

    at_work = threads or min(MOST, os.cpu_count() or 1)
    with ThreadPoolExecutor(at_work, initializer=torch.set_num_threads, initargs=(1,)) as crew:
        futures = [crew.submit(work) for _ in range(at_work)]
        try:
            while at_work:
                step = told.get()
                if step is not _OVER:
                    yield step  # type: ignore[misc]
                    continue
                at_work -= 1
        finally:
            ended.set()
            while at_work:  # whoever waits to be heard can go on, and sees that it is over
                at_work -= told.get() is _OVER
    for future in futures:
        future.result()


@contextmanager
def _ending(ended: threading.Event) -> Iterator[None]:
    """Sets `ended` where the `with` is left by an error, so that the others stop too."""
    whole = False
    try:
        yield
        whole = True
    finally:
        if not whole:
            ended.set()
