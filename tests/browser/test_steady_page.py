"""The page beside a long run: the zoom stays where a person put it, memory does not grow, and the run can be steered.

After the main job's story, in the same workspace; the run is stopped at the end.
"""

import re

import pytest
from playwright.sync_api import CDPSession, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

UPDATES = 60
HURRY = """{ const real = Date.now, began = real(), every = window.setInterval;
Date.now = () => began + 5 * (real() - began);
window.setInterval = (does, wait, ...rest) => every(does, wait / 5, ...rest); }"""
"""The page's clock five times as fast: it asks for news as often in a fifth of a second as it does in one."""
SAID = """() => [...document.querySelectorAll('#samples, #notes')]
    .reduce((sum, box) => sum + document.evaluate('count(.//node())', box).numberValue, 0)"""
RANGE = "() => document.querySelector('#train-chart .js-plotly-plot')._fullLayout.xaxis.range"


def test_a_long_run_beside_the_page(page: Page) -> None:
    page.add_init_script(HURRY)
    page.goto("/?tab=train")
    steps = page.locator("#train-steps input").first
    steps.fill("5000")
    steps.blur()
    expect(page.locator("#plan")).to_contain_text("5,000 steps")
    page.locator("#start").click()
    expect(page.locator("#pause")).to_be_visible()
    points(page, more_than=3)
    steer(page)
    zoom_stays(page)
    memory_stays(page)
    page.locator("#stop").click()
    expect(page.locator("#resume")).to_be_visible()
    expect(page.locator("#steer")).to_be_hidden()


def points(page: Page, more_than: int) -> int:
    page.wait_for_function("least => Number(document.querySelector('#train-chart')?.dataset.n ?? 0) > least", arg=more_than)
    return int(page.locator("#train-chart").get_attribute("data-n"))


def steer(page: Page) -> None:
    """Another rate from the next step on is told in the notes and marked on the curve; nonsense is refused with its reason."""
    page.locator("#steer").get_by_text("Steer this run").click()
    value = page.locator("#steer-value input, #steer-value textarea").first
    expect(page.locator("#steer-name input").first).to_have_value("update: lr")
    expect(value).to_have_attribute("placeholder", "now 0.002")
    value.fill("-1")
    page.locator("#steer-change").click()
    expect(page.locator(".toast-body, .toast-wrap").first).to_contain_text("must be more than 0")
    value.fill("0.001")
    page.locator("#steer-change").click()
    expect(page.locator("#notes")).to_contain_text(re.compile(r"From step \d+: update.lr = 0.001"))
    expect(page.locator("#train-chart .annotation").filter(has_text="◆").first).to_be_attached()
    page.locator("#steer-sample").click()


def zoom_stays(page: Page) -> None:
    page.evaluate(
        "() => Plotly.relayout(document.querySelector('#train-chart .js-plotly-plot'), {'xaxis.range[0]': 0.5, 'xaxis.range[1]': 2.5})"
    )
    shown = page.evaluate(RANGE)
    for _ in range(5):
        points(page, more_than=points(page, more_than=0))
    assert page.evaluate(RANGE) == shown == [0.5, 2.5]
    page.evaluate("() => Plotly.relayout(document.querySelector('#train-chart .js-plotly-plot'), {'xaxis.autorange': true})")


def memory_stays(page: Page) -> None:
    """DOM nodes and listeners over 60 updates, without the answers and notes, of which there are more as the run goes on."""
    session = page.context.new_cdp_session(page)
    for _ in range(3):
        points(page, more_than=points(page, more_than=0))
    before = counters(page, session)
    for _ in range(UPDATES):
        points(page, more_than=points(page, more_than=0))
    after = counters(page, session)
    for name in ("nodes", "jsEventListeners"):
        assert after[name] - before[name] < 2 * UPDATES, f"{name} grew from {before[name]} to {after[name]} over {UPDATES} updates"


def counters(page: Page, session: CDPSession) -> dict[str, int]:
    session.send("HeapProfiler.collectGarbage")
    found = session.send("Memory.getDOMCounters")
    return {**found, "nodes": found["nodes"] - page.evaluate(SAID)}
