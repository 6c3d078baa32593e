"""A handler that a redrawn form has taken away is answered with nothing; one that fails is told. Only what is drawn is filed."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI
from gradio.state_holder import SessionState
from starlette.testclient import TestClient

from workbench.ui.handlers import forgive

SESSION = "one"


def page() -> gr.Blocks:
    """A form that is drawn anew for each word, and a button beside it that always fails."""
    with gr.Blocks() as drawn:
        word, told = gr.Textbox("first"), gr.Textbox()

        @gr.render(inputs=[word], queue=False)
        def form(shown: str) -> None:
            gr.Button(shown).click(lambda: shown, None, told, queue=False)

        gr.Button("break").click(broken, None, told, queue=False)
    return drawn


def broken() -> str:
    raise gr.Error("it broke")


def served(drawn: gr.Blocks) -> Iterator[TestClient]:
    with TestClient(gr.mount_gradio_app(FastAPI(), drawn, path="/", show_error=True), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def client() -> Iterator[TestClient]:
    drawn = page()
    forgive(drawn)
    yield from served(drawn)


def call(client: TestClient, number: int, *data: Any) -> Any:
    body = {"data": list(data), "fn_index": number, "session_hash": SESSION}
    return client.post("/gradio_api/run/predict", json=body)


def redrawn(client: TestClient, word: str) -> int:
    """Draw the form of a word; returns the number of its button's handler."""
    drawing = next(one["id"] for one in client.get("/config").json()["dependencies"] if one["inputs"])
    (handler,) = call(client, drawing, word).json()["render_config"]["dependencies"]
    return handler["id"]


def test_without_forgiveness_gradio_raises() -> None:
    """Should Gradio keep or number handlers another way one day, `ui/handlers.py` can go."""
    for client in served(page()):
        old, _ = redrawn(client, "old"), redrawn(client, "new")
        with pytest.raises(KeyError):
            call(client, old)


def test_a_button_of_a_form_that_was_drawn_again_does_nothing(client: TestClient) -> None:
    old = redrawn(client, "old")
    assert call(client, old).json()["data"] == ["old"]
    new = redrawn(client, "new")
    answer = call(client, old, "what", "was", "typed")
    assert answer.status_code == 200 and answer.json()["data"] == []
    assert new != old and call(client, new).json()["data"] == ["new"]


def test_the_queue_takes_such_a_click_and_ends_it(client: TestClient) -> None:
    old, _ = redrawn(client, "old"), redrawn(client, "new")
    body = {"data": [], "fn_index": old, "session_hash": SESSION}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200
    told = []
    with client.stream("GET", f"/gradio_api/queue/data?session_hash={SESSION}") as stream:
        for line in stream.iter_lines():
            told += [json.loads(line.removeprefix("data: "))] if line else []
            if told and told[-1]["msg"] in ("process_completed", "close_stream", "unexpected_error"):
                break
    assert told[-1]["msg"] == "process_completed" and told[-1]["success"] and told[-1]["output"]["data"] == []


def test_a_handler_that_fails_is_still_told(client: TestClient) -> None:
    breaking = client.get("/config").json()["dependencies"][-1]["id"]
    answer = call(client, breaking)
    assert answer.status_code == 500 and "it broke" in answer.text


def test_the_stand_in_is_no_handler_of_the_page(client: TestClient) -> None:
    """It has no trigger and is not in what the page is told: two handlers, as many as were drawn."""
    assert len(client.get("/config").json()["dependencies"]) == 2


def renamed() -> gr.Blocks:
    """A text box, and a handler that reads it and changes its label."""
    with gr.Blocks() as drawn:
        word = gr.Textbox("first")
        word.submit(lambda said: gr.update(label=said), word, word)
    return drawn


def filed(drawn: gr.Blocks) -> tuple[SessionState, list[int]]:
    """A session in which the handler was asked three times; its components' numbers before."""
    session = SessionState(drawn)
    before = list(session.blocks_config.blocks)
    for said in ("one", "two", "three"):
        asyncio.run(drawn.process_api(0, [said], state=session))
    return session, before


def test_what_a_handler_changes_stays_one_component_under_its_number() -> None:
    drawn = renamed()
    forgive(drawn)
    session, before = filed(drawn)
    assert list(session.blocks_config.blocks) == before, "a list that grows here breaks the thread that walks through it"
    (word,) = [part for part in session.blocks_config.blocks.values() if isinstance(part, gr.Textbox)]
    assert word.label == "three" and session.blocks_config.blocks[word._id] is word


def test_without_it_gradio_files_a_component_again_with_every_change() -> None:
    """Should Gradio keep one number for a component one day, `Parts` can go."""
    session, before = filed(renamed())
    assert len(session.blocks_config.blocks) > len(before)
