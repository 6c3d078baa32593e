"""The page builds with every tab, its pieces say what they should, and nothing a person wrote becomes markup."""

import html
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import yaml

from workbench.core.events import Made, Noted, Said
from workbench.core.method import SHELVES
from workbench.core.spec import TrainSpec
from workbench.core.words import duration, number, size
from workbench.core.workspace import Workspace
from workbench.runs.live import Live
from workbench.runs.records import Run
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui import report
from workbench.ui.bench import TABS, first_spec
from workbench.ui.context import Context
from workbench.ui.forms import WRITER
from workbench.ui.frame import chips, lines_of, machine, mistakes
from workbench.ui.page import build_page
from workbench.ui.plan import plan, takes
from workbench.ui.refreshed import draft_key, readable
from workbench.ui.runtable import run_table, spark, when
from workbench.ui.tabs.papers import cards_of, use
from workbench.ui.tabs.train import buttons, choose, known_runs

EVIL = "<script>alert(1)</script>${alert(2)}"


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


@pytest.fixture(scope="module")
def config(ctx: Context) -> dict[str, Any]:
    return build_page(ctx).get_config_file()


def run(status: str = "finished", id: str = "0001", **changes: Any) -> Run:
    now = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    given = {"name": "first", "kind": "train", "step": 12, "total": 120, "spec": first_spec(), "message": "", "traceback": "",
             "created": now, "started": now, "ended": now, "metrics": {"loss": (2.0, 1.0)}}  # fmt: skip
    return Run(id=id, status=status, **{**given, **changes})  # type: ignore[arg-type]


# The page.


def test_every_tab_is_there_in_order_and_train_is_open(config: dict[str, Any]) -> None:
    items = [part["props"] for part in config["components"] if part["type"] == "tabitem"]
    assert [item["elem_id"] for item in items if str(item["elem_id"]).startswith("tab-")] == [f"tab-{name}" for name in TABS]
    tabs = next(part["props"] for part in config["components"] if part["props"].get("elem_id") == "tabs")
    assert tabs["selected"] == "train"


def test_what_is_chosen_while_the_last_choice_is_answered_is_not_forgotten(config: dict[str, Any]) -> None:
    """Gradio's own way, "once", forgets it. A piece that tells that it `moved` tells it once, too."""
    deaf = [(act["api_name"], act["targets"]) for act in config["dependencies"]
            if act["trigger_mode"] == "once" and {"input", "moved"} & {event for _, event in act["targets"]}]  # fmt: skip
    assert not deaf


def test_who_waits_in_the_line_for_all_has_no_limit_of_its_own(ctx: Context) -> None:
    asked = [act for act in build_page(ctx).fns.values() if act.concurrency_id == WRITER["concurrency_id"]]
    assert len(asked) > 20 and {act.concurrency_limit for act in asked} == {None}


def test_every_control_that_a_test_uses_is_there_once(config: dict[str, Any]) -> None:
    ids = Counter(part["props"].get("elem_id") for part in config["components"])
    wanted = (
        "titlebar piece live tabs start plan train-name train-run pause resume stop train-chart samples notes ask again train-loss "
        "train-update train-probes train-prompts runs-table runs-metric runs-curves run-head run-chart run-report run-again run-resume "
        "run-tables run-compare run-fold run-fold-name run-fold-go run-fold-leave run-fold-says run-delete run-delete-sure run-delete-not "
        "papers run-inspect run-evaluate run-closer run-closer-says runs-numbers adapter-beside adapter-shared adapter-heat-beside"
    )
    assert not [name for name in wanted.split() if ids[name] != 1]
    assert not [name for name, times in ids.items() if name and times > 1], "an elem_id is unique"


def test_every_control_has_a_name_of_its_own(config: dict[str, Any]) -> None:
    """Without a label Gradio tells a screen reader the kind of the control alone: "Dropdown", "Textbox"."""
    kinds = ("dropdown", "radio", "textbox", "checkbox", "checkboxgroup", "number", "slider", "file")
    controls = [part for part in config["components"] if part["type"] in kinds]
    assert controls and not [part["props"].get("elem_id") for part in controls if not (part["props"].get("label") or "").strip()]


def test_no_script_names_an_argument_of_gradio(config: dict[str, Any]) -> None:
    """A quoted `every` in a script made Gradio copy the whole page into each answer."""
    assert "functools.partial" not in json.dumps(config, default=str)


# The frame.


def test_chips_say_what_the_spec_holds_and_escape_it() -> None:
    spec = {**first_spec(), "model": EVIL}
    drawn = chips(spec)
    assert "<script" not in drawn and "${" not in drawn
    assert "rank 16" in drawn and "quickstart" in drawn


def test_chips_say_what_is_lacking() -> None:
    spec = first_spec()
    spec["data"]["path"] = ""
    spec["adapter"] = {"method": "no-such-method"}
    drawn = chips(spec)
    assert len(re.findall(r"<em>choose</em>", drawn)) == 2
    assert "1 mistake" in chips({**first_spec(), "adapter": {**first_spec()["adapter"], "rank": 0}})
    assert mistakes(first_spec()) == []


def test_the_sheet_gives_the_spec_back() -> None:
    text = html.unescape(re.search(r'id="sheet-yaml"[^>]*>(.*?)</pre>', chips(first_spec()), re.DOTALL)[1])  # type: ignore[index]
    assert TrainSpec.parse(yaml.safe_load(text)) == TrainSpec()


def test_live_lines_follow_the_jobs() -> None:
    running = Live("0042", "train", EVIL, "running", 183, 300, 72.0, {"loss": 1.42, "step_ratio": 0.38})
    queued = Live("0043", "train", "next", "queued", 0, 0, None, {})
    drawn, state = lines_of([running, queued])
    for words in ("183/300", "61%", "loss 1.42", "r 0.38", "1 min 12 s left", "waits its turn", 'data-do="pause"'):
        assert words in drawn
    assert "<script" not in drawn and state == "0042:running 0043:queued"
    assert "idle" in lines_of([])[0]


def test_what_comes_before_the_first_step_is_not_called_a_step() -> None:
    loading = Live("0042", "train", "", "running", 0, 1, None, {}, "loading <the> model")
    reading = Live("0042", "train", "", "running", 40, 1812, None, {}, "rows read")
    assert "loading &lt;the&gt; model<" in lines_of([loading])[0] and "rows read 40/1,812" in lines_of([reading])[0]
    assert "step" not in lines_of([loading, reading])[0]


def test_the_machine_is_read() -> None:
    assert re.search(r"core|cuda|nvidia", machine(), re.I) and "GB" in machine()


def test_a_draft_comes_back_only_when_it_could_be_started() -> None:
    spec = first_spec()
    assert readable(spec) and readable(json.loads(json.dumps(spec)))
    assert not readable(None) and not readable({**spec, "steps": 0}) and not readable({**spec, "old_knob": 1})


def test_the_draft_key_survives_a_restart(tmp_path: Path) -> None:
    assert draft_key(Workspace(tmp_path)) == draft_key(Workspace(tmp_path)) != draft_key(Workspace(tmp_path / "other"))


# Train.


def test_the_plan_names_all_mistakes_at_once(ctx: Context) -> None:
    drawn = plan(ctx, {**first_spec(), "steps": 0, "batch_size": 0})
    assert 'class="card act"' in drawn and drawn.count("<li>") == 2


def test_how_long_it_takes_is_judged_by_a_run_of_the_same_base() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    before = run(step=60, started=now, ended=now.replace(minute=1))
    assert "about 2 min" in takes(TrainSpec(), [before])
    assert "after the first run" in takes(TrainSpec(), [run(spec={"model": "other"})])


def test_the_run_in_view_is_the_one_at_work() -> None:
    old, new, waiting = run(id="0001"), run("running", id="0002"), run("queued", id="0003")
    assert choose([waiting, new, old], "0001") is new, "what is over gives way to what is at work"
    assert choose([waiting, new, old], "0003") is waiting, "a choice that is still alive stays"
    assert choose([old], "0001") is old and choose([old], None) is old and choose([], None) is None


@pytest.mark.parametrize(
    ("status", "visible"),
    [
        ("running", "pause stop steer"),
        ("paused", "resume stop steer"),
        ("queued", "stop sooner"),
        ("finished", "ask again take"),
        ("stopped", "resume"),
    ],
)
def test_only_what_can_be_done_is_offered(status: str, visible: str) -> None:
    shown = dict(
        zip("start pause resume stop sooner ask again take steer".split(), buttons(run(status), busy=status == "running"), strict=True)
    )
    assert " ".join(name for name, button in shown.items() if button.visible and name != "start") == visible
    assert shown["start"].value == ("Queue" if status == "running" else "Start")


# Runs.


def test_a_run_that_failed_says_why_with_the_traceback_folded() -> None:
    drawn = report.failure(run("failed", message=EVIL, traceback="Traceback\n  x"))
    assert "<script" not in drawn and "<details" in drawn and "Traceback" in drawn
    assert report.failure(run()) == ""


def test_everything_of_a_run_is_escaped() -> None:
    drawn = "".join(
        [
            report.samples([Said(0, "model", EVIL, EVIL)]),
            report.grid([Said(0, "model", EVIL, EVIL)]),
            report.notes([Noted(EVIL, "act")]),
            report.artifacts([Made("adapter", EVIL, 3)]),
            report.headline(run(name=EVIL)),
            report.spec_sheet(run(spec={"name": EVIL})),
            report.scores(run(metrics={EVIL: (1, 2)})),
            run_table([run(name=EVIL)], lambda _: ([], []), "", 0),
        ]
    )
    assert "<script" not in drawn and "${" not in drawn


def test_answers_stand_in_a_grid_of_prompts_and_steps() -> None:
    said = [Said(0, "model", "who?", "nobody"), Said(0, "model", "why?", ""), Said(30, "model", "who?", "Lomi")]
    drawn = report.grid(said)
    assert [cell.split("<")[0] for cell in drawn.split("<th")[3:5]] == [">who?", ">why?"]
    rows = drawn.split("<tr>")[2:]
    assert "nobody" in rows[0] and "(nothing)" in rows[0] and rows[1].endswith("<td>Lomi</td><td></td></tr></tbody></table></div>")


def test_samples_keep_the_first_and_the_newest_open() -> None:
    drawn = report.samples([Said(step, "model", "who?", f"answer {step}") for step in range(10)])
    outside = re.sub(r"<details.*?</details>", "", drawn, flags=re.DOTALL)
    assert [int(step) for step in re.findall(r"answer (\d)", outside)] == [0, 5, 6, 7, 8, 9]


def test_the_table_shows_first_and_last_and_offers_older_runs() -> None:
    drawn = run_table([run(id="0007")], lambda _: ([0, 1], [2.0, 1.0]), "0007", 3)
    assert "2 → <b>1</b>" in drawn and 'class="opened"' in drawn and "show 3 older" in drawn and "<svg" in drawn
    assert "No runs yet" in run_table([], lambda _: ([], []), "", 0)


def test_a_sparkline_fits_its_box_and_leaves_gaps() -> None:
    drawn = spark([0, 1, 2, 3, 4], [3.0, 1.0, float("nan"), 2.0, 2.5], "#000")
    assert drawn.count("<polyline") == 2 and "nan" not in drawn
    assert spark([0], [1.0], "#000") == ""


def test_when() -> None:
    assert when(datetime.now(UTC)) == "just now" and when(datetime(2020, 1, 2, 3, 4)) == "2020-01-02 03:04"


# Papers.


def test_every_method_has_a_card_with_its_knobs_and_a_safe_link() -> None:
    drawn = cards_of("", "")
    for shelf, methods in SHELVES.items():
        for name, method in methods.items():
            assert f'data-method="{name}"' in drawn, f"{shelf} {name} has no card"
            assert html.escape(method.title()) in drawn
    assert all("noopener" in link for link in re.findall(r"<a [^>]*>", drawn))


def test_the_search_looks_for_every_word() -> None:
    total = len(re.findall("<article", cards_of("", "")))
    assert 0 < len(re.findall("<article", cards_of("paper", ""))) <= total
    assert "No method" in cards_of("no such words anywhere", "")
    assert set(re.findall(r'data-shelf="(\w+)"', cards_of("", "losses"))) == {"losses"}


@pytest.mark.parametrize(
    ("shelf", "tab"), [("losses", "train"), ("adapters", "adapter"), ("probes", "train"), ("noises", "train"), ("selectors", "data")]
)
def test_a_card_puts_its_method_on_the_bench(shelf: str, tab: str) -> None:
    name = {"losses": "cross_entropy", "adapters": "lora"}.get(shelf, next(iter(SHELVES[shelf])))  # some ask for more in the spec
    event = gr.EventData(None, {"shelf": shelf, "name": name})
    spec, loaded, tabs = use(event, first_spec(), 3)
    assert TrainSpec.parse(spec) and f"'method': '{name}'" in str(spec) and loaded == 4 and tabs.selected == tab


@pytest.mark.parametrize(("shelf", "tab"), [("merges", "merge"), ("decoders", "compare"), ("inspections", "runs")])
def test_a_card_of_what_no_run_learns_with_leads_to_its_tab(shelf: str, tab: str) -> None:
    spec, loaded, tabs = use(gr.EventData(None, {"shelf": shelf, "name": next(iter(SHELVES[shelf]))}), first_spec(), 3)
    assert tabs.selected == tab and spec == loaded == gr.skip()


def test_every_shelf_has_cards() -> None:
    assert {shelf for shelf, methods in SHELVES.items() if methods} == set(re.findall(r'data-shelf="(\w+)"', cards_of("", "")))


# Words.


def test_numbers_and_times_read_well() -> None:
    assert [number(value) for value in (1.4237, 0.00031234, 18349, float("nan"))] == ["1.42", "0.000312", "18,300", "not a number"]
    assert [duration(value) for value in (0.2, 40, 72, 7500)] == ["less than a second", "40 s", "1 min 12 s", "2 h 5 min"]
    assert [size(value) for value in (512, 3.1e9, 265e6)] == ["512 bytes", "3.1 GB", "265 MB"]


def test_the_list_of_runs_is_as_new_as_what_announces_it(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that the runner has begun is shown as running even while the store still says that it waits."""
    run = ctx.store.create("train", "late", {"kind": "train"})
    ctx.store.flush()
    assert ctx.store.run(run).status == "queued"
    begun = Live(run, "train", "late", "running", 0, 10, None, {})
    monkeypatch.setattr(ctx.runner, "live", lambda: [begun])
    known = known_runs(ctx)
    assert known[0].id == run and known[0].status == "running"
    assert choose(known, None).id == run
