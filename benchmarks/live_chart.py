"""The live chart of a run with a million logged points: seconds to its first picture, bytes and server time of a refresh.

    python benchmarks/live_chart.py [--points 1000000]

Writes a finished run of that many points into a fresh store (seven numbers a step, as training measures them), starts the
page beside it, and opens the Train tab in Chromium. The first picture counts from the navigation to the drawn lines and holds
everything: the page, Plotly and the thinned points. A refresh is one answer of the pulse with nothing new. Goal: the first
picture under 10 s.
"""

import argparse
import json
import math
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import date
from importlib.metadata import version
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from workbench.core.events import Finished, Measured, Started
from workbench.core.workspace import Workspace
from workbench.runs.store import Store

RESULT = ROOT / "benchmarks" / "results" / "live_chart.json"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
NAMES = ("loss", "grad_norm", "step_ratio", "rho_a", "lr", "tokens_per_s", "memory_gb")
DRAWN = "() => Number(document.querySelector('#train-chart')?.dataset.n ?? 0) > 100"
REFRESHES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        written = fill(home, given.points // len(NAMES))
        port = free_port()
        server = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--home", str(home)], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            wait_for(f"http://127.0.0.1:{port}")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
                found = [looked(browser.new_page(viewport={"width": 1440, "height": 1000}), port) for _ in range(3)]
                browser.close()
        finally:
            server.terminate()
            server.wait(60)
    result = {
        "what": "seconds from navigation to the drawn chart (three fresh pages, the first one warms the server up), points drawn, "
        "bytes and milliseconds of the whole picture's answer, and of a refresh with nothing new (median of 20)",
        "points": given.points,
        "seconds_to_write_them": round(written, 2),
        "pages": found,
        "goal": "first picture under 10 s",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("gradio", "plotly", "duckdb")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def fill(home: Path, steps: int) -> float:
    """A finished run of `steps` steps; the seconds until all of it was on disk."""
    workspace = Workspace(home)
    began = time.perf_counter()
    with Store(workspace.database) as store:
        run = store.create("train", "a million points", {"kind": "train", "model": "pocket", "probes": []})
        store.mark(run, "running")
        store.append(run, Started(steps))
        for step in range(1, steps + 1):
            store.append(
                run, Measured(step, {name: 1 + math.sin(step * (place + 1) / 97) / math.log(step + 2) for place, name in enumerate(NAMES)})
            )
        store.append(run, Finished("finished"))
        store.flush()
    return time.perf_counter() - began


def looked(page: Page, port: int) -> dict[str, float]:
    """One fresh page: its first picture, then a pulse with nothing new."""
    page.set_default_timeout(120_000)
    began = time.perf_counter()
    page.goto(f"http://127.0.0.1:{port}/?tab=train")
    page.wait_for_function(DRAWN)
    first = time.perf_counter() - began
    drawn = int(page.locator("#train-chart").get_attribute("data-n"))
    asked = page.evaluate(
        """async (times) => {
            const run = document.querySelector('#train-chart').dataset.run;
            const found = [];
            let cursor = 0;
            for (let i = 0; i <= times; i += 1) {
                const began = performance.now();
                const body = JSON.stringify({"train-chart": {run, cursor}});
                const asked = {method: 'POST', headers: {'Content-Type': 'application/json'}, body};
                const text = await (await fetch('/pulse', asked)).text();
                found.push([text.length, performance.now() - began]);
                cursor = JSON.parse(text).pieces["train-chart"].cursor;
            }
            return found;
        }""",
        REFRESHES,
    )
    page.close()
    return {
        "first_picture_s": round(first, 2),
        "points_drawn_of_the_loss": drawn,
        "whole_bytes": asked[0][0],
        "whole_ms": round(asked[0][1], 2),
        "refresh_bytes": statistics.median(size for size, _ in asked[1:]),
        "refresh_ms": round(statistics.median(took for _, took in asked[1:]), 2),
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{url} did not come up")


if __name__ == "__main__":
    main()
