"""A file that is brought in, as every page shows it: how far it is with a way to stop it, and its end to the page that began it."""

from workbench.core.events import Progress
from workbench.core.workspace import ASSETS
from workbench.jobs.columns import Foreseen
from workbench.materials.guessing import Hint
from workbench.runs.errand import Told
from workbench.ui.bringing import AROUND, first_row, foretold, shown

PROGRESS = 'class="progress"'  # by which the button that stops it is seen
RUNNING = Told(2, "a<b", "running", Progress(2000, 9000, "read: 1,990 rows, 10 rejects"))


def test_every_page_sees_how_far_it_is_and_can_stop_it() -> None:
    for own in (0, 2):
        drawn, _ = shown(RUNNING, own)
        assert "read: 1,990 rows, 10 rejects · 2,000 of 9,000" in drawn and PROGRESS in drawn
        assert "a&lt;b" in drawn and "a<b" not in drawn
    assert PROGRESS in shown(Told(1, "mine", "running"), 0)[0], "before the first sign of life"
    assert 'data-event="stop"' in AROUND and AROUND.startswith("{}"), "it stands still while the bar is drawn anew"
    assert "#data-progress:not(:has(.progress)) [data-event=stop] { display: none; }" in (ASSETS / "tabs.css").read_text()


def test_only_the_page_that_began_it_is_told_how_it_ended() -> None:
    ended = [
        (Told(2, "mine", "finished", made="/there"), "safe", "in the list now"),
        (Told(2, "mine", "finished", said=("3 rows could not be read.",), made="/there"), "watch", "3 rows could not be read."),
        (Told(2, "mine", "stopped"), "card", "Nothing of it was kept"),
        (Told(2, "mine", "failed", error="No row of <i> can be learnt from. Save it."), "act", "No row of &lt;i&gt;"),
    ]
    for told, tone, says in ended:
        drawn, _ = shown(told, 2)
        assert tone in drawn and says in drawn and PROGRESS not in drawn
        assert shown(told, 1)[0] == shown(told, 0)[0] == ""


def test_the_state_changes_when_work_begins_and_ends_and_not_between() -> None:
    further = Told(2, "a<b", "running", Progress(4000, 9000, "read"))
    assert shown(RUNNING, 2)[1] == shown(further, 2)[1]
    states = [shown(Told(number, "x", status), 0)[1] for number, status in ((0, "idle"), (1, "running"), (1, "stopped"), (2, "running"))]  # type: ignore[arg-type]
    assert len(set(states)) == 4


def test_what_is_known_before_is_told_with_the_first_row_and_nothing_of_it_is_markup() -> None:
    seen = Foreseen(["a<b"], {"prompt": "a<b"}, [Hint("It is a guess that 'a<b' …")], [("user", "<i>Hi</i>")])
    assert "a&lt;b" in foretold(seen) and "watch" in foretold(seen) and "2 files" in foretold(seen, 2)
    assert "&lt;i&gt;Hi" in first_row(seen.turns) and "<i>" not in first_row(seen.turns) and first_row([]) == ""
    assert (
        "Say which column is which" in foretold(Foreseen(["colour"]))
        and foretold(Foreseen()) == foretold(Foreseen(["prompt"], turns=[("user", "x")])) == ""
    )
