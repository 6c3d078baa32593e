"""Where Python looks for garbage that is not there: while large libraries are imported, all of which stay, and when a program ends.

It looks again and again while torch is imported, and through everything once more at the end, when the system takes back all memory anyway:
0.7 of the 4 CPU seconds of a small merge from the shell, 2 of the 6 of a list of all methods [M]. What it is not: a setting for the work
itself, in which garbage is collected as always. Tag: [M] measured.
"""

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def that_stay() -> Iterator[None]:
    """For the length of a `with` nothing is collected, and what is there then is not looked through again before the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # else some libraries list at the end what of theirs is still there


def ending_at_once(run: Callable[[], object]) -> None:
    """Run the whole of a program. It ends with the status that it would have ended with, after everything that wants to be done at the
    end, but for the search through its memory."""
    status = 1  # of whatever nobody has caught

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(end)  # who comes first is called last
    try:
        run()
        status = 0
    except SystemExit as asked:
        status = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
        raise
