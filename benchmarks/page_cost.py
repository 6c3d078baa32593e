"""What the open page costs a training run: steps a second with Chromium on the Train tab against the same spec headless.

    python benchmarks/page_cost.py [--rounds 5] [--steps 120]

Alternates headless (`python -m workbench train` on the spec with which the page opens) and page (`app.py`, Start pressed in a
real Chromium that stays on the Train tab and polls), each in a fresh process with a workspace of its own, on this one machine;
the browser's own work is part of the cost. Steps a second are read from the store's clock between step 10 and the last, so
loading is not counted. Goal: at most 5 %.
"""

import argparse
import json
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
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import duckdb
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "page_cost.json"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def headless(home: Path, steps: int) -> None:
    """An empty spec is the one with which the page opens."""
    home.mkdir()
    spec = home / "spec.yaml"
    spec.write_text("kind: train\n")
    command = [sys.executable, "-m", "workbench", "train", str(spec), "--set", f"steps={steps}", "--home", str(home)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def with_page(home: Path, steps: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--home", str(home)], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(300_000)
            page.goto(f"http://127.0.0.1:{port}/?tab=train")
            field = page.locator("#train-steps input").first
            field.fill(str(steps))
            field.blur()
            page.wait_for_function(f"document.querySelector('#plan').innerText.includes('{steps} steps')")
            page.locator("#start").click()
            page.locator("#ask").wait_for(state="visible")
            browser.close()
    finally:
        server.terminate()
        server.wait(60)


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{url} did not come up")


def steps_per_second(home: Path) -> float:
    """From the store's clock; refuses a run that did not train."""
    with duckdb.connect(str(home / "workbench.duckdb")) as store:
        norms = store.execute("select min(value) from metrics where name = 'grad_norm'").fetchone()[0]
        first, last, began, ended = store.execute(
            "select min(step), max(step), epoch(min(wall)), epoch(max(wall)) from metrics where name = 'loss' and step >= 10"
        ).fetchone()
    if not norms > 0:
        raise SystemExit("a gradient norm was zero: that run did not train, so its speed means nothing")
    return (last - first) / (ended - began)


def measured(job: Callable[[Path, int], None], steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        job(Path(folder) / "home", steps)
        return steps_per_second(Path(folder) / "home")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120)
    given = parser.parse_args()
    rounds = []
    for number in range(given.rounds):
        order = [("headless", headless), ("page", with_page)]
        found = {name: measured(job, given.steps) for name, job in (order if number % 2 == 0 else order[::-1])}
        rounds.append(found)
        print(
            f"headless {found['headless']:.2f}  page {found['page']:.2f} steps/s  ratio {found['page'] / found['headless']:.3f}", flush=True
        )
    ratios = [found["page"] / found["headless"] for found in rounds]
    result = {
        "what": "steps a second with the page open, over headless",
        "median_ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "rounds": rounds,
        "steps": given.steps,
        "goal": "at least 0.95",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "gradio", "plotly", "duckdb")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"median ratio {result['median_ratio']:.3f} ({min(ratios):.3f} to {max(ratios):.3f}) → {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
