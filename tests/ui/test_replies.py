"""How an answer is looked at: escaped, counted, drawn where there is something to draw; the section's own handlers; the file."""

import csv
import html
import io
import math
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured
from workbench.core.workspace import Workspace
from workbench.runs.kept import keep
from workbench.runs.query import Answer, Heading, QueryError, Question
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.runs.views import EXAMPLES, VIEWS
from workbench.ui import replies
from workbench.ui.context import Context
from workbench.ui.querying import choices, drawing
from workbench.ui.server import create_app
from workbench.ui.taking import ANSWER

EVIL = "<script>alert(1)</script>${alert(2)}{{x}}"


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        run = store.create("train", EVIL, {"kind": "train"})
        store.append(run, *[Measured(step, {"loss": 1 / (1 + step)}) for step in range(50)])
        store.flush()
        yield Context(store, runner, workspace)


def answer(columns: dict[str, str], *rows: tuple[Any, ...], more: bool = False) -> Answer:
    return Answer([Heading(*column) for column in columns.items()], list(rows), more, 0.5)


def drawn(figure: Any) -> list[tuple[str, str, list[Any], list[Any]]]:
    return [(trace.type, trace.name, list(trace.x), list(trace.y)) for trace in figure.data]


# Words and tables.


def test_what_a_person_wrote_never_becomes_markup(ctx: Context) -> None:
    found = Question(f"SELECT name, '{EVIL}' AS \"{EVIL}\", 1 AS one FROM runs").answer(ctx.store, 10)
    shown = replies.drawn(found, f"SELECT '{EVIL}'", ANSWER)
    assert "<script" not in shown and "${" not in shown and "{{" not in shown and "alert(1)" in shown
    wrong = replies.mistake(QueryError(f"No {EVIL}", EVIL * 3, " " * len(EVIL) + "^" * len(EVIL)))
    assert wrong.count("alert(1)") == 4 and "<script" not in wrong and "${" not in wrong
    two = answer({EVIL: "VARCHAR", "n": "INTEGER"}, (EVIL, 1), ("b", 2))
    figure = replies.picture(two, (EVIL, "n", ""))
    assert "<script" not in figure.to_json().replace("\\u003c", "<")


def test_rows_are_counted_and_what_is_cut_off_is_said() -> None:
    one = {"n": "BIGINT"}
    assert replies.counted(answer(one, (1,))).startswith("1 row in")
    assert replies.counted(answer(one)).startswith("No row")
    many = [(number,) for number in range(replies.SHOWN + 7)]
    assert "1,000 of 1,007" in replies.counted(answer(one, *many))
    assert "more than 1,007" in replies.counted(answer(one, *many, more=True))
    assert replies.drawn(answer(one, *many), "x", ANSWER).count("<tr>") == replies.SHOWN + 1


def test_a_cell_shows_what_fits() -> None:
    assert replies.shown(datetime(2026, 1, 2, 3, 4, 5, 678)) == "2026-01-02 03:04:05"
    assert len(replies.shown("x" * 1000)) == replies.LONG + 1
    assert replies.shown([1, None]) == "[1, null]" and replies.shown(None) is None and replies.shown(True) == "true"


def test_a_mistake_is_marked_in_its_line() -> None:
    assert "SELECT <mark>lss</mark> FROM" in replies.mistake(QueryError("No.", "SELECT lss FROM runs", "       ^^^"))
    assert "<mark> </mark>" in replies.mistake(QueryError("No.", "SELECT", "      ^"))
    assert "<pre" not in replies.mistake(QueryError("No.")) and "full" in replies.mistake(WorkbenchError("The disk is full."))


def test_the_list_of_what_can_be_asked_is_whole() -> None:
    said = replies.what_can_be_asked()
    assert all(
        f"<code>{view.name}</code>" in said and all(f"<td>{one.name}</td>" in said for one in view.columns) for view in VIEWS.values()
    )


# Pictures.


def test_a_number_for_each_text_is_bars() -> None:
    found = answer({"method": "VARCHAR", "mean": "DOUBLE", "runs": "BIGINT"}, ("lora", 1.0, 3), (None, 2.0, 4))
    assert replies.axes(found) == ("method", "mean", "")
    assert drawn(replies.picture(found, ("method", "mean", ""))) == [("bar", "", ["lora", "–"], [1.0, 2.0])]


def test_a_number_over_another_is_a_line_where_it_rises_and_else_points() -> None:
    columns = {"run": "VARCHAR", "step": "BIGINT", "loss": "DOUBLE"}
    rows = [(run, step, value) for run in ("0001", "0002") for step, value in ((1, 3.0), (2, math.nan), (3, 1.0))]
    found = answer(columns, *rows)
    chosen = replies.axes(found)
    assert chosen == ("step", "loss", "run")
    lines = replies.picture(found, chosen)
    assert [trace.mode for trace in lines.data] == ["lines+markers"] * 2
    assert [(name, x) for _, name, x, _ in drawn(lines)] == [("0001", [1, 3]), ("0002", [1, 3])]
    points = replies.picture(answer(columns, *rows[::-1]), chosen)
    assert {trace.mode for trace in points.data} == {"markers"}


def test_settings_that_span_a_power_of_ten_are_drawn_so_and_steps_are_not() -> None:
    rates = answer({"lr": "DOUBLE", "loss": "DOUBLE"}, (1e-4, 3.0), (1e-3, 2.0), (1e-2, 4.0))
    assert replies.axes(rates) == ("lr", "loss", "")
    assert replies.picture(rates, ("lr", "loss", "")).layout.xaxis.type == "log"
    steps = answer({"step": "BIGINT", "loss": "DOUBLE"}, *[(step, 1.0) for step in range(1, 100)])
    assert replies.picture(steps, ("step", "loss", "")).layout.xaxis.type != "log"


def test_a_number_over_time_is_drawn_over_time() -> None:
    found = answer({"created": "TIMESTAMP", "loss": "DOUBLE"}, *[(datetime(2026, 1, day), 1.0 / day) for day in (1, 2, 3)])
    assert replies.axes(found) == ("created", "loss", "")
    assert drawn(replies.picture(found, ("created", "loss", "")))[0][2][0] == "2026-01-01T00:00:00"


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"a": "VARCHAR"}, [("x",), ("y",)]),
        ({"n": "BIGINT"}, [(1,), (2,)]),
        ({"method": "VARCHAR", "n": "BIGINT"}, [("x", 1)]),
        ({"method": "VARCHAR", "n": "BIGINT"}, []),
        ({"method": "VARCHAR", "n": "BIGINT"}, [("x", 1), ("x", 2)]),
    ],
)
def test_where_there_is_nothing_to_draw_nothing_is_drawn(columns: dict[str, str], rows: list[Any]) -> None:
    found = answer(columns, *rows)
    assert replies.axes(found) is None and drawing(found)[0].visible is False


@pytest.mark.parametrize("kinds", [("BIGINT", "DOUBLE", "VARCHAR"), ("VARCHAR", "INTEGER", "VARCHAR"), ("DATE", "FLOAT", "BOOLEAN")])
def test_any_choice_of_columns_can_be_drawn(kinds: tuple[str, str, str]) -> None:
    value = {"BIGINT": 3, "DOUBLE": math.inf, "VARCHAR": "x", "INTEGER": None, "DATE": datetime(2026, 1, 1).date(), "FLOAT": 1.5,
             "BOOLEAN": True}  # fmt: skip
    found = answer(dict(zip("abc", kinds, strict=True)), *[tuple(value[kind] for kind in kinds)] * 3, (None, None, None))
    across, up, each = replies.offered(found)
    for x in across:
        for y in up:
            for colour in each:
                assert replies.picture(found, (x, y, colour)).layout.title.text


@pytest.mark.parametrize("title", EXAMPLES)
def test_each_example_can_be_looked_at(ctx: Context, title: str) -> None:
    found = Question(EXAMPLES[title]).answer(ctx.store, replies.HELD)
    assert replies.drawn(found, EXAMPLES[title], ANSWER) and drawing(found)


# The page's handlers and the file.


def test_a_new_question_of_a_page_ends_the_one_before_and_of_no_other_page(ctx: Context) -> None:
    desk = replies.Desk()
    first, other = desk.begin("page", "SELECT 1"), desk.begin("other", "SELECT 1")
    second = desk.begin("page", "SELECT 2")
    with pytest.raises(QueryError, match="Stopped"):
        first.answer(ctx.store, 1)
    assert desk.told("page", second.answer(ctx.store, 1)).rows == [(2,)] and other.answer(ctx.store, 1).rows == [(1,)]
    assert desk.last("page").rows == [(2,)] and desk.last("other") is None  # type: ignore[union-attr]


def test_what_one_can_begin_with_are_examples_and_what_was_kept(ctx: Context) -> None:
    keep(ctx.workspace, "mine", "SELECT 1")
    assert choices(ctx) == [*EXAMPLES, "kept: mine"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    workspace = Workspace(tmp_path_factory.mktemp("served"))
    store = Store(workspace.database)
    store.create("train", "a,b", {"kind": "train"})
    with TestClient(create_app(Context(store, Runner(store, workspace, {}), workspace)), base_url="http://127.0.0.1") as client:
        yield client


def test_the_file_has_every_row(client: TestClient) -> None:
    statement = "SELECT run, name, range\r\nFROM runs, range(30000) -- ünï & more"
    sent = client.post(ANSWER, data={"statement": statement})
    assert sent.status_code == 200 and 'filename="answer.csv"' in sent.headers["content-disposition"]
    rows = list(csv.reader(io.StringIO(sent.text)))
    assert rows[0] == ["run", "name", "range"] and rows[1][:2] == ["0001", "a,b"] and len(rows) == 30001


def test_the_file_is_refused_in_words_and_to_other_sites(client: TestClient) -> None:
    for wrong in ({"statement": "FROM read_text('/etc/passwd')"}, {"statement": "DROP TABLE runs"}, {}):
        refused = client.post(ANSWER, data=wrong)
        assert refused.status_code == 400 and re.search(r"\.|runs", refused.text) and "Traceback" not in refused.text
    assert client.post(ANSWER, data={"statement": "SELECT 1"}, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.get(f"{ANSWER}?statement=SELECT+1").status_code in (404, 405)


def test_the_form_posts_the_very_statement(tmp_path: Path) -> None:
    statement = "SELECT '\"<&>' AS x\nFROM range(3) -- ${a}"
    shown = replies.drawn(answer({"x": "VARCHAR"}, ("a",)), statement, ANSWER)
    held = re.search(r'name="statement" value="(.*?)"', shown, flags=re.DOTALL)
    assert held and html.unescape(held[1]) == statement
