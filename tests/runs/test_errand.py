"""Work that leaves no run: followed from anywhere, one at a time, and gone without a trace when it is stopped or fails."""

import threading
from collections.abc import Generator

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Made, Noted, Progress
from workbench.runs.errand import Errand

SOON = 10.0


class Stage:
    """Work that goes on when it is told to, and says when it has tidied up."""

    def __init__(self, *events: Event, error: Exception | None = None):
        self.events, self.error = events, error
        self.go, self.at, self.tidied = threading.Semaphore(0), threading.Semaphore(0), False

    def work(self) -> Generator[Event, None, None]:
        try:
            for event in self.events:
                yield event
                self.at.release()
                assert self.go.acquire(timeout=SOON)
            if self.error:
                raise self.error
        finally:
            self.tidied = True

    def step(self) -> None:
        assert self.at.acquire(timeout=SOON)


def test_it_is_followed_while_it_works_and_tells_what_it_made() -> None:
    errand, stage = Errand(), Stage(Progress(1, 3, "rows"), Noted("Two are odd."), Made("data", "/there"))
    assert errand.told().status == "idle" and errand.start("mine", stage.work()) == 1
    stage.step()
    told = errand.told()
    assert (told.number, told.name, told.status, told.progress) == (1, "mine", "running", Progress(1, 3, "rows"))
    stage.go.release(3)
    told = errand.wait(SOON)
    assert (told.status, told.said, told.made, told.error) == ("finished", ("Two are odd.",), "/there", "") and stage.tidied


def test_stopped_work_ends_at_its_next_event_and_has_tidied_up_when_it_counts_as_over() -> None:
    errand, stage = Errand(), Stage(*[Progress(number, 9, "rows") for number in range(9)])
    errand.start("mine", stage.work())
    stage.step()
    errand.stop()
    stage.go.release()
    told = errand.wait(SOON)
    assert told.status == "stopped" and told.progress == Progress(1, 9, "rows") and stage.tidied


def test_what_is_made_when_it_is_stopped_is_made() -> None:
    errand, stage = Errand(), Stage(Progress(0, 1, "rows"), Made("data", "/there"))
    errand.start("mine", stage.work())
    stage.step()
    errand.stop()
    stage.go.release(2)
    assert errand.wait(SOON).status in ("stopped", "finished")
    assert (errand.told().status == "finished") == (errand.told().made == "/there")


@pytest.mark.parametrize("error", [WorkbenchError("No row can be learnt from. Save it anew."), OSError(28, "No space left"), MemoryError()])
def test_a_failure_is_a_sentence(error: Exception) -> None:
    errand, stage = Errand(), Stage(Progress(0, 1, "rows"), error=error)
    errand.start("mine", stage.work())
    stage.go.release()
    told = errand.wait(SOON)
    assert told.status == "failed" and told.error.endswith(".") and stage.tidied and not told.made


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_that_nobody_foresaw_ends_it_too() -> None:
    errand, stage = Errand(), Stage(error=KeyError("x"))
    errand.start("mine", stage.work())
    errand.close()
    assert errand.told().status == "failed" and "terminal" in errand.told().error


def test_there_is_one_at_a_time_and_then_another() -> None:
    errand, stage = Errand(), Stage(Progress(0, 1, "rows"))
    errand.start("mine", stage.work())
    with pytest.raises(WorkbenchError, match=r"'mine' is still being worked on\. Wait until"):
        errand.start("other", Stage().work())
    stage.go.release()
    errand.wait(SOON)
    assert errand.start("other", Stage().work()) == 2 and errand.wait(SOON).number == 2


def test_closing_waits_until_all_is_tidy_and_may_come_twice() -> None:
    errand, stage = Errand(), Stage(*[Progress(number, 9, "rows") for number in range(9)])
    errand.close()
    errand.start("mine", stage.work())
    stage.step()
    stage.go.release(9)
    errand.close()
    errand.close()
    assert stage.tidied and errand.told().status == "stopped"
