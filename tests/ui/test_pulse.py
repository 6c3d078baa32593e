"""One request brings the news of many pieces that are seen, and nonsense is refused."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from workbench.core.errors import WorkbenchError
from workbench.ui.polled import polled
from workbench.ui.pulse import PATH, Pulse


@pytest.fixture
def pulse() -> Pulse:
    made = Pulse()
    made.piece("twice", lambda asked: {"twice": 2 * asked["value"]})
    return made


@pytest.fixture
def client(pulse: Pulse) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=[Route(PATH, pulse.answer, methods=["POST"])])) as client:
        yield client


def test_each_piece_that_is_asked_for_is_answered_and_no_other(client: TestClient) -> None:
    assert client.post(PATH, json={"twice": {"value": 4}}).json()["pieces"] == {"twice": {"twice": 8}}
    assert client.post(PATH, json={}).json()["pieces"] == {}


def test_a_piece_that_cannot_be_read_takes_no_other_with_it(pulse: Pulse, client: TestClient) -> None:
    def gone(asked: dict[str, Any]) -> dict[str, Any]:
        raise WorkbenchError("There is no run 'foo'.")

    pulse.piece("gone", gone)
    assert client.post(PATH, json={"gone": {}, "twice": {"value": 1}}).json()["pieces"] == {"twice": {"twice": 2}}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"live"', b'{"unknown": {}}', b'{"twice": 3}'])
def test_what_is_no_question_of_this_page_is_refused_with_a_sentence(client: TestClient, body: bytes) -> None:
    answer = client.post(PATH, content=body)
    assert answer.status_code == 400
    assert answer.text == "A pulse asks for pieces of this page by name."


def test_two_programs_are_told_apart() -> None:
    assert Pulse().news({})["program"] != Pulse().news({})["program"]


def test_polled_html_is_sent_once_and_again_only_when_it_changed() -> None:
    pulse, drawn = Pulse(), ["<b>1</b>"]
    with gr.Blocks():
        polled(pulse, lambda value: (drawn[0] + str(value), "quiet"), "figure")

    def ask(key: str) -> dict[str, Any]:
        return pulse.news({"figure": {"value": 7, "key": key}})["pieces"]["figure"]

    first = ask("")
    assert first["html"] == "<b>1</b>7" and first["state"] == "quiet"
    assert "html" not in ask(first["key"])
    drawn[0] = "<b>2</b>"
    assert ask(first["key"])["html"] == "<b>2</b>7"
