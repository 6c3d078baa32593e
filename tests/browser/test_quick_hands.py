"""A hand that is faster than the page: what is pressed in a form while the next one is on its way does nothing, and breaks nothing; what
is chosen, typed and pressed elsewhere meanwhile counts.

Before `ui/handlers.py` each such click was an answer 500 and an error in the page; the fixture `page` fails the test for either.
"""

import re

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STEPS = 4
WAYS = ("lora", "dora", "oft", "full")
PRESS = """async ({presses, every}) => {
    for (const press of presses) {
        for (const found of document.querySelectorAll(press)) {
            if (found.matches("input[type=number], textarea")) {
                found.value = String(Number(found.value) + 1);
                found.dispatchEvent(new Event("input", { bubbles: true }));
                found.dispatchEvent(new Event("blur", { bubbles: true }));
            } else found.click();
        }
        await new Promise((done) => setTimeout(done, every));
    }
}"""
"""Press what each selector finds, a moment apart; a field counts one up."""


SLOW_END = """const send = window.fetch;
window.fetch = async (...asked) => {
    const answer = await send(...asked);
    if (!answer.url.includes("/queue/data")) return answer;
    const transform = async (chunk, out) => {
        if (new TextDecoder().decode(chunk).includes("close_stream")) await new Promise((done) => setTimeout(done, 1500));
        out.enqueue(chunk);
    };
    return new Response(answer.body.pipeThrough(new TransformStream({ transform })), answer);
};"""
"""As over a long line: that the server has closed the stream of answers is heard late."""


def press(page: Page, *presses: str, every: int) -> None:
    page.evaluate(PRESS, {"presses": presses, "every": every})


def test_steps_are_taken_away_faster_than_they_are_drawn(page: Page) -> None:
    page.goto("/?tab=data")
    expect(page.locator("#data-kept")).to_contain_text("of 500")
    for place in range(STEPS):
        page.locator("#data-add").click()
        expect(page.locator(f"#data-remove-{place}")).to_be_visible()
    press(page, *["#data-remove-0"] * 20, every=25)
    while page.locator("#data-remove-0").count():  # presses of which some came too early
        press(page, "#data-remove-0", every=500)
    expect(page.get_by_text("No steps: every readable row is kept.")).to_be_visible()
    page.locator("#data-add").click()
    page.locator("#data-remove-0").click()
    expect(page.locator("#data-remove-0")).to_have_count(0)
    expect(page.locator("#data-kept")).to_contain_text("kept 500 of 500")
    page.locator("#data-use-train").click()
    expect(page.get_by_role("tab", name="Train", exact=True)).to_have_attribute("aria-selected", "true")


def test_ways_are_chosen_while_their_forms_are_filled_in(page: Page) -> None:
    page.goto("/?tab=adapter")
    expect(page.locator("#adapter-tiles")).to_contain_text("332")
    fields = "#tab-adapter .knobs input[type=number], #tab-adapter .knobs textarea, #tab-adapter .knobs input[type=checkbox]"
    turns = [f"#adapter-families [data-pick={way}]" for way in WAYS * 2]
    press(page, *[one for turn in turns for one in (turn, *[fields] * 4)], every=20)
    page.locator("#adapter-families [data-pick=lora]").click()
    expect(page.locator("#adapter-head h3")).to_contain_text(re.compile("LoRA"))
    rank = page.locator("#adapter-lora-rank input").first
    rank.fill("8")
    rank.blur()
    expect(page.locator("#chip-adapter")).to_contain_text("rank 8")


def test_a_question_that_crosses_the_end_of_the_stream_is_answered(page: Page) -> None:
    page.add_init_script(SLOW_END)
    streams = set()
    page.on("request", lambda asked: streams.add(asked) if "/queue/data" in asked.url else None)
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda asked: streams.discard(asked))
    page.goto("/?tab=data")
    expect(page.locator("#data-kept")).to_contain_text("of 500")
    for place in range(STEPS):
        page.locator("#data-add").click()
        expect(page.locator(f"#data-remove-{place}")).to_be_visible()
        page.wait_for_timeout(400)  # the server has answered and closed; the page has not heard of it
    while streams:  # none outlives the last answer
        page.wait_for_timeout(100)


LISTED = """([part, count]) => document.querySelector("#sheet-yaml").textContent.split(`\\n${part}:`)[1].split(/\\n\\w/)[0]
    .split("- method").length === count + 1"""
"""So many methods stand under a part of the spec."""


def test_every_tick_counts_though_the_one_before_it_is_still_being_answered(page: Page) -> None:
    page.goto("/?tab=train")
    expect(page.locator("#plan")).to_contain_text("120 steps")
    page.locator("#group-probes").get_by_text("Probes").click()
    expect(page.locator("#train-probes label").first).to_be_visible()
    ticked = page.locator("#train-probes input:checked").count()
    for _ in range(2):
        page.locator("#train-probes input:not(:checked)").first.dispatch_event("click")
    expect(page.locator("#train-probes input:checked")).to_have_count(ticked + 2)
    page.wait_for_function(LISTED, arg=["probes", ticked + 2])


def test_a_click_counts_though_its_piece_is_drawn_anew_while_the_button_is_held(page: Page) -> None:
    """Between the press and the release of a person's finger lies a tenth of a second, and a piece that lives changes each second."""
    page.goto("/?tab=papers")
    use = page.locator("#papers [data-event=use]").first
    use.scroll_into_view_if_needed()
    box = use.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.evaluate("() => { const box = document.querySelector('#papers .polled'); Workbench.replace(box, box.innerHTML + '<b id=anew>'); }")
    page.mouse.up()
    expect(page.locator("#tab-papers")).to_be_hidden()  # where the button leads
    expect(page.locator("#anew")).to_be_attached()  # and the piece is as new as it would have been


def test_a_piece_is_alive_though_its_script_comes_late(page: Page) -> None:
    """Gradio adds scripts of others while it draws, and waits for none."""

    def late(asked: Route) -> None:
        page.wait_for_timeout(2000)
        asked.continue_()

    page.route("**/livechart.js", late)
    page.goto("/?tab=train")
    expect(page.locator("#train-chart")).to_have_attribute("data-n", re.compile("[0-9]"))
