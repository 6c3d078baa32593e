"""The models of the last merge that was tried, open for the next try, so that a moved slider need not open them again.

What it is not: what a try does with them (`jobs/tasting.py`, `jobs/searching.py`).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.tasted import Tasted
from workbench.jobs.tasting import Tasting

KEPT = 600.0  # seconds after which models that nobody tried any more are let go
PATIENCE = 2.0  # seconds after which somebody who waits is told what is known by then
MANY = 100  # persons whose wishes are remembered
T = TypeVar("T")


class Tastings:
    """One merge's models at a time; safe between threads."""

    def __init__(self, kept: float = KEPT, patience: float = PATIENCE) -> None:
        self._kept, self._patience = kept, patience
        self._lock = threading.Lock()
        self._key: tuple[object, ...] = ()
        self._open: Tasting | None = None
        self._later: threading.Timer | None = None
        self._wishes: dict[str, object] = {}

    def wish(self, who: str, what: object) -> None:
        """The last that somebody wants to see; whoever shows them something else by then can leave it."""
        self._wishes.pop(who, None)
        self._wishes[who] = what
        for oldest in list(self._wishes)[:-MANY]:
            self._wishes.pop(oldest, None)

    def wished(self, who: str) -> object:
        return self._wishes.get(who)

    def taste(self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace) -> Iterator[Tasted | None]:
        """As `Tasting.taste`; None comes first where models have to be opened, which takes a while."""
        yield from self.with_open(spec, sets, workspace, lambda tasting: tasting.taste(spec, self._patience))

    def with_open(
        self, spec: MergeSpec, sets: Sequence[str], workspace: Workspace, work: Callable[[Tasting], Iterator[T]]
    ) -> Iterator[T | None]:
        """What `work` does with the open models; None comes first where they have to be opened. Others wait until it is done.

        The models stay for a while for whoever comes next, and are then let go.
        """
        key = (spec.base, *(given.model for given in spec.models), *map(str, spec.stack), spec.tokenizer, *sets, workspace.home)
        with self._lock:
            if self._later:
                self._later.cancel()
            try:
                if key != self._key:
                    yield None
                    self._key, self._open = (), None  # let the old ones go before the new ones come
                    self._open, self._key = Tasting(spec, sets, workspace), key
                assert self._open is not None
                yield from work(self._open)
            finally:
                self._let_go_later()

    def _let_go_later(self) -> None:
        self._later = threading.Timer(self._kept, self._let_go)
        self._later.daemon = True
        self._later.start()

    def _let_go(self) -> None:
        with self._lock:
            if self._later is threading.current_thread():  # else somebody has used them since
                self._key, self._open = (), None
