"""A real Chromium against a real server: started once for the folder, on a free port, with an empty workspace."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 300_000  # ms: continuous integration may be slow


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address; the server is ended with the tests, and must not have been ended by them."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (home / "server.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--home", str(home / "workspace")], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, server, home / "server.log")
        yield url
        assert server.poll() is None, (home / "server.log").read_text()
        assert "Traceback" not in (home / "server.log").read_text(), (home / "server.log").read_text()
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.3)
        else:
            return
    raise AssertionError(f"the page did not come up:\n{log.read_text()}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


TOASTS = """let leaving = false;
addEventListener("beforeunload", () => { leaving = true; });  // a stream that ends with its page is told as a lost connection to nobody
new MutationObserver((records) => {
    for (const node of records.flatMap((record) => [...record.addedNodes])) {
        const toast = node.nodeType === 1 && (node.matches(".toast-body.error") ? node : node.querySelector(".toast-body.error"));
        if (toast && !leaving) window.toasted(toast.textContent.trim());
    }
}).observe(document, { childList: true, subtree: true });"""
"""Tells of each error that Gradio shows in a corner of the page; what a person did wrong is a warning or a card there, never this."""


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh page; it fails the test when the page raised or showed an error of the program, when our server answered with one, or when
    the page asked anyone else for anything."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, base_url=address)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    wrong: list[str] = []
    context.expose_function("toasted", lambda said: wrong.append(f"showed: {said}"))
    context.add_init_script(TOASTS)
    opened.on("pageerror", lambda error: wrong.append(f"raised: {error}"))
    opened.on("response", lambda answer: wrong.append(f"{answer.status}: {answer.url}") if answer.status >= 500 else None)
    opened.on(
        "request", lambda asked: wrong.append(f"asked {asked.url}") if not asked.url.startswith((address, "data:", "blob:")) else None
    )
    yield opened
    context.close()
    assert not wrong, wrong
