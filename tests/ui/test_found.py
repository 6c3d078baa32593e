"""What a run found, as figures, sentences and tables; which runs offer a closer look, and what is begun there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from workbench.core.errors import SpecError
from workbench.core.events import Finished, Measured, Noted, Table
from workbench.core.picture import Picture
from workbench.core.spec import InspectSpec, MergeSpec, ReportSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.evaluate import ANSWERS, HEADS, PICTURES, SCORES
from workbench.jobs.inspect import NUMBERS, pictures_of
from workbench.jobs.report import CHANGED
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui import evaluating, found, inspecting
from workbench.ui.bench import make_bench
from workbench.ui.closer import Closer, offers
from workbench.ui.context import Context


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    workspace = Workspace(tmp_path / "home")
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


def run(ctx: Context, kind: str, spec: Any, *events: Any, status: str = "finished") -> str:
    number = ctx.store.create(kind, spec.name, spec.model_dump(mode="json"))
    ctx.store.append(number, *events, Finished(status))
    ctx.store.flush()
    return number


def test_answers_stand_side_by_side_where_models_differ_first() -> None:
    heads = HEADS[ANSWERS]
    lines = [
        ["exam", "exam", 1, "a?", "x", "base", "x", True, 0.1], ["exam", "exam", 1, "a?", "x", "tuned", "x", True, 0.1],
        ["exam", "exam", 2, "b?", "y", "base", "y", True, 0.1], ["exam", "exam", 2, "b?", "y", "tuned", "<z>", False, 0.1],
    ]  # fmt: skip
    shown = found.side_by_side(Table(ANSWERS, heads, lines))
    assert shown.columns == ["task", "question", "wanted", "base", "tuned"]
    assert [row[1] for row in shown.rows] == ["b?", "a?"]
    assert shown.rows[0][3:] == ["✓ y", "✗ <z>"]
    html = found.tables([Table(ANSWERS, heads, lines), Table(NUMBERS, ["model"], [["x"]])])
    assert "&lt;z&gt;" in html and "<z>" not in html and NUMBERS.capitalize() not in html


def test_the_same_question_twice_is_two_rows_and_what_a_model_was_not_asked_stays_empty() -> None:
    lines = [["exam", "exam", row, "a?", "x", model, "x", True, 0.1] for model, row in (("base", 1), ("tuned", 1), ("tuned", 2))]
    shown = found.side_by_side(Table(ANSWERS, HEADS[ANSWERS], lines))
    assert [row[3:] for row in shown.rows] == [["✓ x", "✓ x"], ["", "✓ x"]]


def test_a_report_shows_what_was_learnt_and_lost_before_all_else() -> None:
    html = found.tables([Table("weights", ["a"], [[1]]), Table(CHANGED, ["a"], [[1]])])
    assert html.index(CHANGED.capitalize()) < html.index("Weights")


def test_sentences_keep_their_order_and_are_escaped() -> None:
    html = found.sentences([Noted("first"), Noted("<b>second</b>")])
    assert html.index("first") < html.index("&lt;b&gt;second") and found.sentences([]) == ""


def test_figures_are_of_the_tables_that_are_there() -> None:
    pictures = [Picture("one", "lines", "One", x="x", y="y", each=""), Picture("two", "lines", "Two", x="x", y="y", each="")]
    drawn = found.figures([Table("two", ["x", "y"], [[1, 2.0]])], pictures)
    assert [figure.layout.title.text for figure in drawn] == ["Two"]


def test_a_report_is_held_against_the_runs_before_it(ctx: Context) -> None:
    trained = [
        run(
            ctx,
            "train",
            TrainSpec(name=name),
            *[Measured(step, {"base_loss": 0.1 * (step + 1), "validation_loss": 1 / (step + 1)}) for step in range(3)],
        )
        for name in ("one", "two")
    ]
    run(ctx, "train", TrainSpec(name="unmeasured"), Measured(1, {"loss": 1.0}))
    spec = ReportSpec(model=f"run:{trained[0]}", inspections=[])
    reported = run(ctx, "report", spec, Table(SCORES, HEADS[SCORES], [["base", "exam", "exam", 1, 1.0, 0.2, 1.0, 0.1]]))
    figures = found.drawn_of(ctx.store, ctx.store.run(reported))
    assert [trace.name for trace in figures[0].data] == [f"{trained[1]} · two", f"{trained[0]} · one"], "the reported one is drawn last"
    assert len(figures) == 3
    newest = found.plane(ctx.store, ctx.store.run(run(ctx, "report", ReportSpec(model=f"run:{trained[1]}"))))[0].data
    assert [trace.name for trace in newest] == [f"{trained[0]} · one", f"{trained[1]} · two"], "the newest run too"
    assert list(newest[1].x) == pytest.approx([0.1, 0.2, 0.3]) and list(newest[1].y) == pytest.approx([1, 1 / 2, 1 / 3])
    of_unmeasured = run(ctx, "report", ReportSpec(model="run:0003"))
    on_top = run(ctx, "train", TrainSpec(name="<b>", model=f"run:{trained[0]}"), Measured(1, {"base_loss": 1.0, "validation_loss": 1.0}))
    assert [found.plane(ctx.store, ctx.store.run(number)) for number in (of_unmeasured, on_top)] == [[], []]
    assert f"{on_top} · &lt;b&gt;" in [trace.name for trace in found.drawn_of(ctx.store, ctx.store.run(reported))[0].data]
    named_alike = run(ctx, "report", ReportSpec(model=f"model:{trained[0]}"))
    assert found.plane(ctx.store, ctx.store.run(named_alike)) == [], "a merged model is no run, whatever it is called"
    of_merge = run(ctx, "report", ReportSpec(model="model:both"), status="stopped")
    assert found.plane(ctx.store, ctx.store.run(of_merge)) == []


def test_pictures_are_those_of_what_was_asked_for(ctx: Context) -> None:
    own = pictures_of("weight_change")
    inspected = ctx.store.run(run(ctx, "inspect", InspectSpec(models=["run:0001"], inspection="weight_change")))
    reported = ctx.store.run(run(ctx, "report", ReportSpec(model="run:0001", inspections=["weight_change"])))
    assert own and found.pictures(inspected) == own and [*found.pictures(reported)] == [*PICTURES, *own]


def test_a_model_lists_what_was_found_of_it(ctx: Context) -> None:
    numbers = Table(NUMBERS, ["model", "measure", "value"], [["run 0001", "relative change", 0.25]])
    run(ctx, "inspect", InspectSpec(name="Weights of it", models=["run:0001"]), numbers)
    run(ctx, "inspect", InspectSpec(name="failed", models=["run:0001"]), numbers, status="failed")
    weights = Table("weights", ["model", "layer", "size"], [["run 0001", "first", 9.75]])
    run(ctx, "report", ReportSpec(name="Its report", model="run:0001"), weights, numbers)
    html = found.of_model(ctx.store, "run:0001")
    assert "9.75" not in html, "only what is held against other runs"
    assert "Weights of it" in html and "Its report" in html and "failed" not in html and "0.25" in html
    assert found.of_model(ctx.store, "run:0002") == ""


@pytest.mark.parametrize(
    ("kind", "status", "offered"),
    [
        ("train", "finished", True),
        ("train", "stopped", True),
        ("train", "running", False),
        ("merge", "finished", True),
        ("compare", "finished", False),
    ],
)
def test_what_is_over_and_made_something_can_be_looked_at(ctx: Context, kind: str, status: str, offered: bool) -> None:
    number = run(ctx, kind, TrainSpec(), status="finished")
    ctx.store.mark(number, status) if status != "finished" else None
    ctx.store.flush()
    assert offers(ctx.store.run(number)) is offered and not offers(None)


def test_an_inspection_is_of_the_run_and_of_models_beside_it_each_once(ctx: Context) -> None:
    trained = ctx.store.run(run(ctx, "train", TrainSpec()))
    spec = inspecting.spec_of(trained, ["model:both", "run:0001"], {"method": "weight_change", "ranks": False})
    assert spec.models == ["run:0001", "model:both"] and not spec.inspection.ranks and "run 0001" in spec.name
    merged = ctx.store.run(run(ctx, "merge", MergeSpec(name="both", models=[{"model": "run:0001"}])))
    assert inspecting.spec_of(merged, None, {"method": "weight_change"}).models == ["model:both"]


def test_an_evaluation_asks_the_base_first_and_a_report_asks_of_one_model(ctx: Context) -> None:
    trained = ctx.store.run(run(ctx, "train", TrainSpec(model="pocket")))
    how = {"scorer": "contains", "most_rows": 5}
    spec = evaluating.evaluation_of(trained, ["known"], ["pocket", "model:both"], how)
    assert spec.models == ["pocket", "run:0001", "model:both"]
    assert (spec.sets[0].data, spec.sets[0].scorer, spec.sets[0].most_rows) == ("known", "contains", 5)
    assert evaluating.evaluation_of(trained, [], [], how, ["arc_easy"]).tasks == ["arc_easy"]
    report = evaluating.report_of(trained, [], how)
    assert (report.model, report.base, report.sets) == ("run:0001", "pocket", [])
    merged = ctx.store.run(run(ctx, "merge", MergeSpec(name="both", base="hub/base", models=[{"model": "run:0001"}])))
    assert evaluating.evaluation_of(merged, [], [], how).models == ["hub/base", "model:both"]
    with pytest.raises(SpecError, match="regular expression"):
        evaluating.report_of(trained, ["known"], {**how, "pattern": "("})


def test_what_was_found_of_several_runs_stands_side_by_side_the_newest_of_each(ctx: Context) -> None:
    def numbers(*rows: tuple[str, float]) -> Table:
        return Table(NUMBERS, ["model", "measure", "value"], [[model, "relative change", value] for model, value in rows])

    one, two = (ctx.store.run(run(ctx, "train", TrainSpec(name=name))) for name in ("one", "two"))
    run(ctx, "inspect", InspectSpec(models=["run:0001"]), numbers(("run 0001 · one", 0.1)))
    run(
        ctx,
        "inspect",
        InspectSpec(models=["run:0001", "run:0002"]),
        numbers(("run 0001 · one", 0.25), ("run 0002 · two", 0.5), ("run 0021", 0.7)),
    )
    html = found.side_by_side_numbers(ctx.store, [one, two])
    assert "<th>run 0001 · one</th><th>run 0002 · two</th>" in html and "0.25" in html and "0.5" in html
    assert "0.1<" not in html, "found again since"
    assert "run 0021" not in html and "run 0021" in found.side_by_side_numbers(ctx.store, [ctx.store.run("0004")])
    assert "two" not in found.side_by_side_numbers(ctx.store, [one]) and found.side_by_side_numbers(ctx.store, []) == ""


def test_what_is_begun_is_opened_and_a_mistake_leaves_the_panel_as_it_is(ctx: Context) -> None:
    """The outputs are what was wrong, which panel is open, and the opened run."""
    trained, begun = run(ctx, "train", TrainSpec()), list[Any]()
    runner = SimpleNamespace(submit=lambda spec: begun.append(spec) or "0007")
    with gr.Blocks() as page:
        bench = make_bench(gr.Tabs())
        which, button = gr.Textbox(), gr.Button()
        closer = Closer(replace(ctx, runner=runner), bench, gr.State("inspect"), gr.State(""), gr.HTML())  # type: ignore[arg-type]
        closer.starts(button, lambda opened, given: inspecting.spec_of(opened, [], {"method": given[which]}), {which})
        (act,) = (wired for wired in page.fns.values() if (button._id, "click") in wired.targets)
        assert act.fn({bench.opened: trained, which: "weight_change"}) == ("", "", "0007") and begun[0].models == [f"run:{trained}"]
        card, *rest = act.fn({bench.opened: trained, which: "none"})
    assert "card act" in card and rest == [gr.skip(), gr.skip()] and len(begun) == 1


def test_a_mistake_in_a_setting_is_a_card_and_what_stood_there_stays() -> None:
    def wrong() -> tuple[str, str]:
        raise SpecError(["it is wrong"])

    closer = Closer(None, None, None, None, None)  # type: ignore[arg-type]
    card, other = closer.said(wrong)()
    assert "it is wrong" in card and other == gr.skip() and closer.said(lambda: ("", "right"))() == ("", "right")


def test_an_old_run_that_is_reported_stands_among_the_newest_others(ctx: Context) -> None:
    measured = [Measured(step, {"base_loss": 0.1, "validation_loss": 1.0}) for step in range(2)]
    runs = [run(ctx, "train", TrainSpec(name=str(number)), *measured) for number in range(found.RUNS + 3)]
    reported = run(ctx, "report", ReportSpec(model=f"run:{runs[0]}"))
    (drawn,) = found.plane(ctx.store, ctx.store.run(reported))
    names = [trace.name.split(" · ")[0] for trace in drawn.data]
    assert names == [*reversed(runs[-found.RUNS + 1 :]), runs[0]]


def test_what_was_found_of_a_merge_goes_by_its_models_name(ctx: Context) -> None:
    merged = ctx.store.run(run(ctx, "merge", MergeSpec(name="both", models=[{"model": "run:0001"}])))
    numbers = Table(NUMBERS, ["model", "measure", "value"], [["both", "relative change", 0.25], ["other", "relative change", 0.75]])
    run(ctx, "inspect", InspectSpec(models=["model:both"]), numbers)
    html = found.side_by_side_numbers(ctx.store, [merged])
    assert "0.25" in html and "0.75" not in html
