"""Long work in a handler while a person watches: a bar now and then, in the end what came of it.

Pure generators; no component stands here. What it is not: the queue, or who may stop the work (`counting.py`).
"""

import time
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from workbench.core.events import Progress
from workbench.ui import cards

REFRESH = 0.25  # seconds between two pictures of the bar, and before the first
Value = TypeVar("Value")


def watched(work: Generator[Progress, None, Value], wanted: Callable[[], bool] = lambda: True, beside: str = "") -> Iterator[str | Value]:
    """The bar as markup with what stands `beside` it, then what the work returns; nothing more once it is not `wanted`.

    Raises:
        whatever the work raises.
    """
    last = time.monotonic()
    while wanted():
        try:
            said = next(work)
        except StopIteration as end:
            yield from [end.value] if wanted() else []
            return
        if wanted() and time.monotonic() - last >= REFRESH:
            last = time.monotonic()
            yield cards.progress(said.done, said.total, said.what) + beside
    work.close()
