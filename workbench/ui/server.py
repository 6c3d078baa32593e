"""The server of the page: our own FastAPI application with Gradio mounted on it, for this computer only.

A plain `launch()` answers foreign Host headers (DNS rebinding) and runs functions for posts from other sites (gui.md 5,
measured), so Gradio is mounted behind a host check, a same-origin check and a content policy that lets the page ask
nothing of any other host. What it is not: a server for a network; there are no users and no passwords here.
"""

import hashlib
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench.core.workspace import ASSETS
from workbench.ui.address import HOSTS
from workbench.ui.context import Context
from workbench.ui.handlers import forgive
from workbench.ui.heading import Headed
from workbench.ui.page import build_page
from workbench.ui.pulse import PATH
from workbench.ui.taking import routes

READING = {"GET", "HEAD", "OPTIONS"}
CONTENT_POLICY = (  # 'unsafe-eval' and 'unsafe-inline': Gradio's templates are compiled in the browser
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
QUEUE_REST = 0.05
PROGRESS_REST = 0.25
"""Seconds between two looks of Gradio's queue for a waiting event, and for a progress bar. Its own choice outside Windows
is 0.001 and 0.01: up to eleven hundred wake-ups a second, each of which takes the interpreter from a run that trains."""
UNREAD = 10**12
"""Events after which Gradio sums up all of them for its monitoring page, which is not served here. Its own choice is 1: 4 ms of processor
time after each event, and 13 once there were ten thousand (measured)."""
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SameOrigin:
    """Refuses what another site's page sends, and puts the security headers on every answer.

    A browser names the sender in `Origin` and `Sec-Fetch-Site`; a program that is no browser sends neither and may come in.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if refused(scope.get("method", "CONNECT"), Headers(scope=scope)):
            answer = PlainTextResponse("This request came from another site, so the workbench did not run it.", status_code=403)
            await answer(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, with_headers)


def refused(method: str, headers: Headers) -> bool:
    """Whether a request was made by a page of another origin and could change or read something."""
    origin = headers.get("origin", "")
    if origin and origin.partition("://")[2] != headers.get("host", ""):
        return True
    return method not in READING and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def create_app(ctx: Context) -> FastAPI:
    """The application over one store, runner and workspace, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        ctx.runner.close()
        ctx.store.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    prefix = serve_assets(app)
    app.add_middleware(Headed, first=scripts(prefix))
    app.add_middleware(SameOrigin)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))
    page = build_page(ctx)
    forgive(page)
    app.router.routes += [Route(PATH, ctx.pulse.answer, methods=["POST"]), *routes(ctx)]
    mounted = gr.mount_gradio_app(
        app,
        page,
        path="/",
        app_kwargs={"openapi_url": None, "docs_url": None, "redoc_url": None},
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        head=styles(prefix),
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        footer_links=[],
        allowed_paths=[],
        blocked_paths=[str(ctx.workspace.home.resolve())],
        max_file_size="2gb",
        show_error=True,
        favicon_path=str(ASSETS / "icon.svg"),
    )
    lighten(page.config)
    page._queue.sleep_when_free = QUEUE_REST
    page._queue.progress_update_sleep_when_free = PROGRESS_REST
    page._queue.ANAYLTICS_CACHE_FREQUENCY = UNREAD
    return mounted


SILENT = (
    "api_description", "js_implementation", "event_specific_args", "time_limit", "show_progress_on", "scroll_to_output", "batch",
    "trigger_only_on_success", "trigger_only_on_failure", "component_prop_inputs",
)  # fmt: skip
"""What a handler need not say where it is false, null or empty."""
WITHIN = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs", "component_class_id")
"""What a component says of itself to programs."""
OF_STATE = ("delete_callback", "time_to_live")
"""What a state says of itself, which is the server's own affair."""
UNABLE = ("_retryable", "_undoable", "likeable", "streamable", "_selectable")
"""Events that a component need not say it has not."""


def lighten(config: Mapping[str, Any]) -> None:
    """Take out of the page's description what only Gradio's own page about its interface reads, which is not served here, and what its
    page takes for absent where nothing is said. A component of Gradio's own is found by its type as well as by its class."""
    for component in config["components"]:
        for name in WITHIN:
            component.pop(name, None)
        for name in OF_STATE:
            component["props"].pop(name, None)
        for name in (name for name in UNABLE if component["props"].get(name) is False):
            component["props"].pop(name)
    for handler in config["dependencies"]:
        handler.pop("max_batch_size", None)
        for name in (name for name in SILENT if not handler.get(name)):
            handler.pop(name, None)


STYLES = ("theme.css", "tabs.css")
SCRIPTS = ("line.js", "answers.js", "page.js", "livechart.js")
"""In the order in which the page loads them."""


def styles(prefix: str) -> str:
    """What the page loads of ours after Gradio's styles."""
    links = "".join(f'<link rel="stylesheet" href="{prefix}/{name}">' for name in STYLES)
    return f'<meta name="viewport" content="width=device-width, initial-scale=1">{links}'


def scripts(prefix: str) -> str:
    """What the page runs of ours before Gradio's scripts."""
    return "".join(f'<script src="{prefix}/{name}"></script>' for name in SCRIPTS)


def assets() -> dict[str, Path]:
    """Everything that is served from disk, by name: a closed list, so that no path can be asked for."""
    plotly = Path(str(files("plotly"))) / "package_data" / "plotly.min.js"
    return {name: ASSETS / name for name in STYLES + SCRIPTS} | {"plotly.min.js": plotly}


def serve_assets(app: FastAPI) -> str:
    """Serve the assets under a prefix that carries their hash, so that a browser may keep them for ever; returns it."""
    held = assets()
    mark = hashlib.sha256(b"".join(path.read_bytes() for path in held.values())).hexdigest()[:12]

    async def asset(name: str) -> FileResponse | PlainTextResponse:
        if name not in held:
            return PlainTextResponse("There is no such file.", status_code=404)
        return FileResponse(held[name], headers={"Cache-Control": "public, max-age=31536000, immutable"})

    app.add_api_route(f"/assets-{mark}/{{name}}", asset, methods=["GET"], include_in_schema=False, response_model=None)
    return f"/assets-{mark}"


def serve(ctx: Context, bound: socket.socket) -> None:
    """Answer until the program is told to end (Ctrl-C)."""
    config = uvicorn.Config(create_app(ctx), log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[bound])
