"""The server goes while a person works in the page, and comes back as another program: the page says so, and nothing typed is lost.

On a server of its own, which is killed; what a person types comes from the keyboard, since only that counts as typed.
"""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PATIENCE = 300_000  # ms: continuous integration may be slow


class Server:
    """A server on one port over one workspace, which can be killed and started again."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home, self.url = home, f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "app.py", "--port", str(self.port), "--home", str(self.home)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "the server has ended"
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
            except (URLError, TimeoutError, ConnectionError):
                time.sleep(0.2)
            else:
                return
        raise AssertionError("the page did not come up")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    own = Server(tmp_path / "workspace")
    own.start()
    own.wait()
    yield own
    own.kill()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, base_url=server.url)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield opened
    context.close()


def write(page: Page, field: str, words: str) -> None:
    page.locator(field).first.click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(words)


def test_what_is_typed_while_the_server_is_away_is_there_when_it_is_back(page: Page, server: Server) -> None:
    page.goto("/?tab=data")
    expect(page.locator("#data-kept")).to_contain_text("of 500")
    page.locator("#data-add").click()
    expect(page.locator("#data-remove-0")).to_be_visible()
    page.get_by_role("tab", name="Compare", exact=True).click()
    write(page, "#compare-prompt textarea", "Who are you?")
    page.get_by_role("tab", name="Train", exact=True).click()
    expect(page.locator("#plan")).to_contain_text("120 steps")

    server.kill()
    write(page, "#train-steps input", "77")
    page.keyboard.press("Tab")
    page.locator("#group-loss").get_by_text("Loss").first.click()
    write(page, "#train-name textarea, #train-name input", "typed in the dark")
    expect(page.locator("#line")).to_contain_text("cut")
    expect(page.locator(".toast-body")).to_have_count(0)

    server.start()
    expect(page.locator("#plan")).to_contain_text("77 steps")
    expect(page.locator("#train-name textarea, #train-name input").first).to_have_value("typed in the dark")
    page.wait_for_function("() => document.querySelector('#sheet-yaml').textContent.includes('name: typed in the dark')")
    expect(page.locator("#line")).to_be_hidden()
    page.get_by_role("tab", name="Compare", exact=True).click()
    expect(page.locator("#compare-prompt textarea")).to_have_value("Who are you?")
    page.get_by_role("tab", name="Data", exact=True).click()
    expect(page.locator("#data-remove-0")).to_be_visible()
