"""The writing thread: an error that nobody foresaw ends it, and nobody waits for ever."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from workbench.core.errors import WorkbenchError
from workbench.runs.writer import Writer


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_after_an_error_that_nobody_foresaw_whoever_waits_or_comes_later_hears_of_it() -> None:
    def write(items: list[object]) -> None:
        raise AttributeError("nobody foresaw this")

    writer = Writer(write, (OSError,), print, lambda: None, every=0.01)
    writer.put([1])
    with pytest.raises(WorkbenchError, match=r"stopped working|closed"):
        ThreadPoolExecutor(1).submit(writer.order, lambda: "never").result(timeout=30)
    writer._thread.join()
    with pytest.raises(WorkbenchError, match="closed"):
        writer.put([2])
    writer.close()


def test_an_answered_order_stays_answered_when_a_later_one_breaks_the_thread() -> None:
    written: list[object] = []
    writer = Writer(written.extend, (OSError,), print, lambda: None, every=0.01)
    writer.put(["one"])
    assert writer.order(lambda: list(written)) == ["one"]
    writer.put(["two"])
    writer.close()
    assert written == ["one", "two"]
