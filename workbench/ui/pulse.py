"""The page's pulse: one small request a second brings the news of every piece of the page that changes by itself.

Why neither a `gr.Timer` nor a server function for each piece: a timer ticks in hidden tabs and goes through Gradio's event
path (gui.md 6, 15), and every request takes the interpreter from a run that trains in this process, so there is one for
all. Only pieces that somebody sees are asked for. What it is not: the way to change anything; a read only reads.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from workbench.core.errors import WorkbenchError

Read = Callable[[dict[str, Any]], dict[str, Any]]
"""What a piece asks → what it is told. Both travel as JSON, so nothing in them may be infinite or NaN; it must be quick."""

PATH = "/pulse"


class Pulse:
    """The pieces that want news, by name. One for a page; filled while the page is built."""

    def __init__(self) -> None:
        self.program = secrets.token_hex(8)  # another one after a restart, which has forgotten this page's session: reload
        self._reads: dict[str, Read] = {}

    def piece(self, name: str, read: Read) -> None:
        """Answer the piece called `name` with `read`, which runs beside other reads."""
        self._reads[name] = read

    def news(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answers by piece; one that cannot be read is left out, and the page marks it, so that it takes no other with it."""
        told = {}
        for name, question in asked.items():
            with suppress(WorkbenchError):
                told[name] = self._reads[name](question)
        return {"program": self.program, "pieces": told}

    async def answer(self, request: Request) -> Response:
        """The route's endpoint: takes and gives JSON."""
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        if not isinstance(asked, dict) or not all(name in self._reads and isinstance(asked[name], dict) for name in asked):
            return PlainTextResponse("A pulse asks for pieces of this page by name.", status_code=400)
        return JSONResponse(await run_in_threadpool(self.news, asked))
