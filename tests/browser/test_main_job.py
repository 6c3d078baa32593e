"""The main job with the mouse: look at data, choose an adapter, train, merge, compare, find the runs, read the papers.

One long story, because each part needs what the one before made. With WORKBENCH_SHOTS=1 a picture of each tab, for
people to look at, goes to `screenshots/`.
"""

import json
import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

SHOTS = Path(__file__).parent / "screenshots"
TAKEN = bool(os.environ.get("WORKBENCH_SHOTS"))

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TABS = ("Data", "Adapter", "Train", "Merge", "Compare", "Runs", "Papers")


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def shot(page: Page, name: str) -> None:
    if TAKEN:
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def points(page: Page, more_than: int) -> int:
    """Wait until the live chart holds more points of the loss than that; returns how many."""
    page.wait_for_function("least => Number(document.querySelector('#train-chart')?.dataset.n ?? 0) > least", arg=more_than)
    return int(page.locator("#train-chart").get_attribute("data-n"))


def finish(page: Page) -> None:
    expect(page.locator("#ask")).to_be_visible()


def set_steps(page: Page, number: int) -> None:
    """Fewer than the demo's own, to spare time; enough for its answers to change."""
    steps = page.locator("#train-steps input").first
    steps.fill(str(number))
    steps.blur()
    expect(page.locator("#plan")).to_contain_text(f"{number} steps")


def choose(page: Page, box: str, label: str) -> None:
    """Pick an entry of a drop-down by what a person reads."""
    page.locator(f"#{box} input").first.click()
    page.get_by_role("option", name=re.compile(re.escape(label))).first.click()


def test_the_main_job(page: Page, tmp_path: Path) -> None:
    page.goto("/")
    expect(page.locator("#plan")).to_contain_text("120 steps")
    look_at_data(page, tmp_path)
    choose_an_adapter(page)
    train_and_reload(page)
    train_another(page)
    merge_both(page)
    compare(page)
    find_the_runs(page)
    look_closer(page)
    read_the_papers(page)


def look_at_data(page: Page, tmp_path: Path) -> None:
    tab(page, "Data")
    page.locator("#data-sets [data-pick=quickstart]").click()
    expect(page.locator("#data-found")).to_contain_text("500")
    expect(page.locator("#data-rows .bubble").first).to_be_visible()
    page.locator("#data-view").get_by_text(re.compile("as the model|tokens")).click()
    expect(page.locator("#data-rows .token-row .trained").first).to_be_visible()
    expect(page.locator("#data-rows .token-row .masked").first).to_be_visible()
    page.locator("#data-view").get_by_text("table").click()
    expect(page.locator("#data-rows table tbody tr").nth(3)).to_be_visible()
    shot(page, "data")

    page.locator("#data-sets [data-pick=messy]").click()
    page.locator("#data-issues [data-pick='show:copies']").click()
    expect(page.locator("#data-pager")).to_contain_text("of 47")
    page.locator("#data-issues [data-pick='step:exact_duplicates']").click()
    expect(page.locator("#data-kept")).to_contain_text("kept 503 of 550")
    page.locator("#data-remove-0").click()
    expect(page.locator("#data-kept")).to_contain_text("kept 550 of 550")
    page.locator("#data-view").get_by_text("bubbles").click()
    choose(page, "data-show", "kept")
    page.locator("#data-rows [data-pick='edit:1']").focus()
    page.keyboard.press("x")
    expect(page.locator("#data-kept")).to_contain_text("kept 549 of 550")
    page.locator("#data-keep").get_by_text("Keep or export").click()
    page.locator("#data-keep-name input, #data-keep-name textarea").first.fill("chosen")
    page.locator("#data-keep-go").click()
    expect(page.locator("#data-sets [data-pick=chosen]")).to_contain_text("549 rows")

    mine = tmp_path / "mine.jsonl"
    rows = [json.dumps({"prompt": f"What is {n}?", "completion": f"It is {n}."}) for n in range(12)]
    mine.write_text("\n".join([*rows[:5], "{broken", *rows[5:]]) + "\n")
    page.locator("#data-bring").get_by_text("Bring your own").click()
    page.locator("#data-upload input[type=file]").set_input_files(mine)
    expect(page.locator("#data-ingest")).to_be_enabled()
    page.locator("#data-ingest").click()
    expect(page.locator("#data-sets [data-pick=mine]")).to_be_visible()
    expect(page.locator("#data-found")).to_contain_text("12")
    expect(page.locator("#data-problems, #data-found").filter(has_text=re.compile("line|could not", re.I)).first).to_be_attached()
    page.locator("#data-sets [data-pick=quickstart]").click()
    expect(page.locator("#data-found")).to_contain_text("500")
    page.locator("#data-use-adapter").click()


def choose_an_adapter(page: Page) -> None:
    expect(page.get_by_role("tab", name="Adapter", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#adapter-tiles")).to_contain_text("332")
    rank = page.locator("#adapter-lora-rank input").first
    rank.fill("8")
    rank.blur()
    expect(page.locator("#adapter-tiles")).to_contain_text("166")
    expect(page.locator("#chip-adapter")).to_contain_text("rank 8")
    shot(page, "adapter")
    rank.fill("16")
    rank.blur()
    expect(page.locator("#chip-adapter")).to_contain_text("rank 16")


def train_and_reload(page: Page) -> None:
    tab(page, "Train")
    page.locator("#train-name input, #train-name textarea").first.fill("teller")
    set_steps(page, 70)
    page.locator("#start").click()
    points(page, more_than=5)
    page.locator("#pause").click()
    expect(page.locator("#resume")).to_be_visible()
    page.locator("#resume").click()
    before = points(page, more_than=10)
    page.reload()
    after = points(page, more_than=before - 1)
    assert after >= before, "a reload shows the same run, further on"
    expect(page.locator("#samples h4").first).to_be_visible()
    shot(page, "train-live")
    finish(page)
    expect(page.locator("#samples")).to_contain_text("Once there was")
    shot(page, "train")


def train_another(page: Page) -> None:
    page.locator("#again").click()
    expect(page.get_by_role("tab", name="Data", exact=True)).to_have_attribute("aria-selected", "true")
    page.locator("#data-sets [data-pick=skill_a]").click()
    expect(page.locator("#data-found")).to_contain_text("alpaca")
    page.locator("#data-use-train").click()
    expect(page.locator("#chip-data")).to_contain_text("skill_a")
    page.locator("#train-name input, #train-name textarea").first.fill("doubler")
    set_steps(page, 120)  # long enough to be still at work when the next one is started
    page.locator("#start").click()
    expect(page.locator("#train-chart")).to_have_attribute("data-run", "0002")
    page.locator("#start").click()  # a second start queues …
    expect(page.locator("#live .job.queued")).to_be_visible()
    # … and is taken out again, without waiting for the button to stand still: each pulse draws it anew
    page.locator("#live .job.queued [data-do=stop]").dispatch_event("click")
    expect(page.locator("#live .job.queued")).to_have_count(0)
    finish(page)


def merge_both(page: Page) -> None:
    tab(page, "Merge")
    choose(page, "merge-models", "teller")
    choose(page, "merge-models", "doubler")
    page.keyboard.press("Escape")
    choose(page, "merge-method", "LiNeS")
    expect(page.locator("#merge-scores table")).to_contain_text("skill_a")
    merged = page.locator("#merge-scores tbody .merged b")
    expect(merged.first).to_contain_text("%")  # the merged model has answered
    shot(page, "merge")
    drag_the_curve(page)
    shot(page, "merge-dragged")
    choose(page, "merge-method", "Model Stock")
    expect(page.locator("#merge-picture")).to_contain_text(re.compile("angle", re.I))
    shot(page, "merge-stock")
    name = page.locator("#merge-name input, #merge-name textarea").first
    name.fill("both")
    name.blur()
    page.locator("#merge-save").click()
    expect(page.locator("#merge-compare")).to_be_enabled()
    page.locator("#merge-compare").click()


def drag_the_curve(page: Page) -> None:
    """Both ends down to the floor: nothing of what was learnt is left, and the merged model scores and answers as the base."""

    def column(place: int) -> list[str]:
        rows = page.locator("#merge-scores tbody tr")
        return [rows.nth(row).locator("td").nth(place).inner_text() for row in range(rows.count())]

    learnt, answers = column(3), page.locator("#merge-answers").inner_text()
    assert learnt != column(0)
    for end, other in (("alpha", "0"), ("beta", "0")):
        handle = page.locator(f'#merge-picture [data-handle="merge-lines-{end}"]')
        box = handle.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"], box["y"] + 100, steps=5)
        page.mouse.move(box["x"], box["y"] + 400, steps=5)
        page.mouse.up()
        expect(page.locator(f"#merge-lines-{end} input[type=number]")).to_have_value(other)
        expect(page.locator(f'#merge-picture [data-handle="merge-lines-{end}"]')).to_have_attribute("aria-valuenow", "0")
    expect(page.locator("#merge-scores tbody .merged b").first).to_contain_text("%")
    expect(page.locator("#merge-scores tbody")).not_to_contain_text("…")  # a skill that is still being scored
    assert column(3) == column(0)
    expect(page.locator("#merge-answers")).not_to_have_text(answers)


def compare(page: Page) -> None:
    expect(page.get_by_role("tab", name="Compare", exact=True)).to_have_attribute("aria-selected", "true")
    prompt = page.locator("#compare-prompt textarea, #compare-prompt input").first
    prompt.fill("Where does Zukosi live?")
    choose(page, "compare-models", "teller")
    choose(page, "compare-models", "doubler")
    page.keyboard.press("Escape")
    page.locator("#compare-ask").click()
    panes = page.locator("#compare-panes .pane")
    expect(panes).to_have_count(4)
    expect(panes.nth(0).locator(".spoken")).to_contain_text("Zukosi lives in Kori.")
    expect(panes.nth(2).locator(".spoken")).to_contain_text("Once there was")
    expect(page.locator("#compare-ask")).to_be_enabled()
    assert panes.nth(2).locator(".spoken span[style*=color-mix]").count() > 0, "tokens are tinted where their probability moved"
    read_a_token(page)
    shot(page, "compare")
    vote(page)
    shot(page, "compare-voted")


def read_a_token(page: Page) -> None:
    """With the mouse, then with the keys alone: a card with a line for each model."""
    first, second = (page.locator(f"#compare-panes .pane:nth-child(3) [data-n='{place}']") for place in (0, 1))
    card = page.locator("#token-card")
    first.hover()
    expect(card.locator("section")).to_have_count(4)
    page.mouse.move(0, 0)
    expect(card).to_be_hidden()
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(second).to_be_focused()
    expect(card).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def vote(page: Page) -> None:
    """The talk goes on without names; the key 2 votes, and then everybody is named and rated."""
    names = page.locator("#compare-panes .pane header b")
    page.locator("#compare-blind input").check()
    page.locator("#compare-prompt textarea").fill("And what does Zukosi like?")
    page.keyboard.press("Enter")
    expect(page.locator("#compare-past .turn")).to_have_count(1)
    expect(page.get_by_role("button", name="B is best")).to_be_visible()
    expect(names).to_have_text(["A", "B", "C", "D"])
    page.locator("#compare-prompt textarea").blur()
    page.keyboard.press("2")
    expect(names.first).to_contain_text("A · ")
    page.locator("#compare-ratings summary").click()
    expect(page.locator("#compare-ratings tbody tr")).to_have_count(4)


def find_the_runs(page: Page) -> None:
    tab(page, "Runs")
    table = page.locator("#runs-table")
    expect(table).to_contain_text("teller")
    for run in ("0001", "0002"):
        table.locator(f"input[value='{run}']").check()
    expect(page.locator("#runs-curves .js-plotly-plot")).to_be_visible()
    table.locator("[data-event=open][data-run='0001']").click()
    expect(page.locator("#run-head")).to_contain_text("teller")
    expect(page.locator("#run-report")).to_contain_text("adapter")
    page.locator("#run-report summary", has_text="Spec as YAML").click()
    expect(page.locator("#run-yaml")).to_contain_text("kind: train")
    shot(page, "runs")
    page.locator("#run-again").click()
    expect(page.get_by_role("tab", name="Train", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#chip-data")).to_contain_text("quickstart")
    tab(page, "Runs")
    table.locator("[data-event=open][data-run='0003']").click()
    expect(page.locator("#run-head")).to_contain_text("0003")
    page.locator("#run-delete").click()
    page.locator("#run-delete-sure").click()
    expect(table.locator("[data-run='0003']")).to_have_count(0)


def look_closer(page: Page) -> None:
    """What a run learnt and lost, and an inspection of it: each a run of its own that is opened when it begins."""
    opened = page.locator("#runs-table [data-event=open][data-run='0001']")
    opened.click()
    page.locator("#run-evaluate").click()
    page.locator("#run-evaluate-most_rows textarea, #run-evaluate-most_rows input").first.fill("6")
    page.wait_for_timeout(1500)
    page.locator("#run-evaluate-report").click()
    expect(page.locator("#run-picture-4 .js-plotly-plot")).to_be_visible(timeout=90_000)
    expect(page.locator("#run-report")).to_contain_text(re.compile("Learnt|Lost|Kept"))
    expect(page.locator("#run-tables")).to_contain_text("Learnt and lost")
    shot(page, "report")
    for name in ("Intruder dimensions", "Skill localisation"):  # a form that is drawn again must not ask for what is gone
        opened.click()
        page.locator("#run-inspect").click()
        choose(page, "run-inspect-which", name)
        expect(page.locator("#run-closer h3")).to_contain_text(name)
        page.wait_for_timeout(1500)  # Gradio draws a form a moment before it knows whom its buttons ask
        page.locator("#run-inspect-go").click()
        expect(page.locator("#run-head")).to_contain_text(name)
        expect(page.locator("#run-picture-0 .js-plotly-plot")).to_be_visible(timeout=90_000)


def read_the_papers(page: Page) -> None:
    tab(page, "Papers")
    cards = page.locator("#papers .paper-card")
    expect(cards.first).to_be_visible()
    assert cards.count() >= 14
    expect(page.locator("#papers .paper-card[data-method=lines] a[href*='2410.17146']").first).to_be_visible()
    page.locator("#papers input[type=search]").fill("stock")
    expect(page.locator("#papers .paper-card:visible")).to_have_count(1)
    shot(page, "papers")


def test_a_second_page_shows_the_same_runs(page: Page) -> None:
    page.goto("/?tab=runs")
    expect(page.locator("#runs-table")).to_contain_text("teller")


def test_dark_and_narrow_pages_hold_together(page: Page) -> None:
    """Nothing sticks out sideways on a phone; the pictures are for people to look at."""
    wide, narrow = {"width": 1440, "height": 1000}, {"width": 420, "height": 900}
    page.goto("/?tab=runs")
    for name in TABS:
        page.set_viewport_size(wide)
        tab(page, name)
        page.set_viewport_size(narrow)
        page.wait_for_timeout(1000)
        shot(page, f"narrow-{name.lower()}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 421, name
    page.set_viewport_size(wide)
    page.locator("#theme-toggle").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    for name in TABS:
        tab(page, name)
        page.wait_for_timeout(700)
        shot(page, f"dark-{name.lower()}")
