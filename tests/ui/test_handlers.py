"""A handler that a redrawn form has taken away is answered with nothing; one that fails is told. Only what is drawn is filed. Of what
several handlers write of a state at once nothing is lost."""

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
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


def alone(work: Coroutine[Any, Any, Any]) -> Any:
    """What `work` gives, by a loop in a thread of its own: in this one Playwright's may be at work, for as long as a browser is open."""
    with ThreadPoolExecutor(1) as own:
        return own.submit(asyncio.run, work).result()


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
        alone(drawn.process_api(0, [said], state=session))
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


def test_a_form_may_be_drawn_while_somebody_walks_through_the_handlers() -> None:
    drawn = page()
    forgive(drawn)
    config = SessionState(drawn).blocks_config
    for _ in config.fns.values():  # as the one that looks who hears of a state
        config.set_event_trigger([], lambda: None, None, None)  # as the thread that draws a form
    assert config.fn_id > len(drawn.fns)


class Typing:
    """A page on which two fields are written into one state, and a button reads it. The first field's handler waits for the second's to
    have begun, which it does only where both begin together."""

    def __init__(self, patience: float = 0.5) -> None:
        self.patience, self.crossed = patience, False
        self.begun, self.met, self.sent = threading.Event(), threading.Event(), dict[str, str]()
        with gr.Blocks() as self.page:
            self.spec = gr.State({})
            first, second = gr.Textbox(), gr.Textbox()
            wired: dict[str, Any] = {"queue": False}
            first.input(self.slow, [self.spec, first], self.spec, **wired)
            second.input(self.quick, [self.spec, second], self.spec, **wired)
            gr.Button().click(self.send, self.spec, None, **wired)

    def slow(self, spec: dict[str, str], typed: str) -> dict[str, str]:
        self.begun.set()
        self.crossed = self.met.wait(self.patience)
        return {**spec, "first": typed}

    def quick(self, spec: dict[str, str], typed: str) -> dict[str, str]:
        self.met.set()
        return {**spec, "second": typed}

    def send(self, spec: dict[str, str]) -> None:
        self.sent = spec

    async def used(self) -> dict[str, str]:
        """Both are filled in and then the button is pressed, while the first is being answered; what the state holds in the end."""
        session = SessionState(self.page)
        first = asyncio.create_task(self.page.process_api(0, [None, "a"], state=session))
        await asyncio.to_thread(self.begun.wait)
        second = asyncio.create_task(self.page.process_api(1, [None, "b"], state=session))
        await asyncio.sleep(0)
        await asyncio.gather(first, second, self.page.process_api(2, [None], state=session))
        return session[self.spec._id]


def test_of_two_fields_that_are_filled_in_at_once_both_count_and_a_button_after_them_sees_both() -> None:
    typing = Typing()
    forgive(typing.page)
    assert alone(typing.used()) == {"first": "a", "second": "b"} == typing.sent


def test_without_turns_gradio_loses_the_second() -> None:
    """Should Gradio write states one after the other one day, `Turns` can go."""
    assert alone(Typing().used()) == {"first": "a"}


def test_a_generator_keeps_nobody_waiting() -> None:
    with gr.Blocks() as drawn:
        spec, word = gr.State({}), gr.Textbox()

        def long(held: dict[str, str]) -> Iterator[dict[str, str]]:
            yield {**held, "long": "begun"}
            yield {**held, "long": "over"}

        word.submit(long, spec, spec)
        word.input(lambda held, typed: {**held, "typed": typed}, [spec, word], spec)
    forgive(drawn)

    async def crossed() -> dict[str, str]:
        session = SessionState(drawn)
        begun = await drawn.process_api(0, [None], state=session)
        await asyncio.wait_for(drawn.process_api(1, [None, "a"], state=session), 30)
        held = dict(session[spec._id])
        await drawn.process_api(0, [None], state=session, iterator=begun["iterator"])
        return held

    assert alone(crossed()) == {"long": "begun", "typed": "a"}


def test_a_generator_that_takes_long_to_begin_keeps_nobody_waiting_either() -> None:
    begun, met, crossed = threading.Event(), threading.Event(), list[bool]()
    with gr.Blocks() as drawn:
        spec, word = gr.State({}), gr.Textbox()

        def long(held: dict[str, str]) -> Iterator[dict[str, str]]:
            begun.set()
            crossed.append(met.wait(5))
            yield {**held, "long": "begun"}

        word.submit(long, spec, spec)
        word.input(lambda held, typed: met.set() or {**held, "typed": typed}, [spec, word], spec)
    forgive(drawn)

    async def used() -> None:
        session = SessionState(drawn)
        first = asyncio.create_task(drawn.process_api(0, [None], state=session))
        await asyncio.to_thread(begun.wait)
        await drawn.process_api(1, [None, "a"], state=session)
        await first

    alone(used())
    assert crossed == [True]


def test_another_page_has_states_of_its_own() -> None:
    typing = Typing(patience=60)
    forgive(typing.page)

    async def two() -> None:
        here, there = SessionState(typing.page), SessionState(typing.page)
        waiting = asyncio.create_task(typing.page.process_api(0, [None, "a"], state=here))
        await asyncio.to_thread(typing.begun.wait)
        await typing.page.process_api(1, [None, "b"], state=there)
        await waiting
        assert typing.crossed, "one page waited for the other"
        assert (here[typing.spec._id], there[typing.spec._id]) == ({"first": "a"}, {"second": "b"})

    alone(two())
