"""Our scripts in the head of the page itself, before Gradio's.

Gradio adds what it is given as `head` by a script of its own, while the page is being drawn, and waits for none of it (read and met on
6.31): on a slow line a piece is drawn before the script that brings it to life is there, and stays dead. A script that stands in the page
has run before any of Gradio's begins. What it is not: the place for styles; ours come after Gradio's, and count more.
"""

import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Headed:
    """Answers with the page as Gradio makes it, and with `first` at the beginning of its head."""

    def __init__(self, app: ASGIApp, first: str):
        self.app, self.first = app, first.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        parts, packed = list[Message](), "gzip" in Headers(scope=scope).get("accept-encoding", "")

        async def keep(message: Message) -> None:
            if message["type"] not in ("http.response.start", "http.response.body"):
                await send(message)
                return
            parts.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await self._send(parts, packed, send)

        as_it_is = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]  # Gradio would pack it
        await self.app({**scope, "headers": as_it_is}, receive, keep)

    async def _send(self, parts: list[Message], packed: bool, send: Send) -> None:
        begin, *rest = parts
        page = b"".join(part.get("body", b"") for part in rest)
        headers = MutableHeaders(scope=begin)
        if headers.get("content-type", "").startswith("text/html"):
            page = page.replace(b"<head>", b"<head>" + self.first, 1)
            if packed:
                page, headers["content-encoding"] = gzip.compress(page, 6), "gzip"
            headers["content-length"], headers["vary"] = str(len(page)), "Accept-Encoding"
        await send(begin)
        await send({"type": "http.response.body", "body": page})
