"""A number that varies, in the Merge tab: opened, dragged, moved with the keys and typed; into the recipe, and back out of mergekit's.

The demo model stands for the tuned one, so that nothing has to be trained first.
"""

import re

import pytest
import yaml
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
KIT = """merge_method: ties
base_model: pocket
models:
  - model: pocket
    parameters: {weight: [0.25, 0.5, 1.0]}
parameters:
  density:
    - {filter: self_attn, value: 0.75}
    - {value: 0.5}
"""


def test_a_number_that_varies_goes_into_the_recipe_and_back(page: Page) -> None:
    page.goto("/?tab=merge")
    for box, label in (("merge-models", "pocket (demo)"), ("merge-method", "TIES")):
        page.locator(f"#{box} input").first.click()
        page.get_by_role("option", name=label).first.click()
        page.keyboard.press("Escape")
    page.locator("#merge-recipe").get_by_text("The recipe as YAML").click()
    expect(page.locator("#merge-recipe-text textarea")).to_have_value(re.compile("method: ties"))
    varied = page.locator("#merge-ties-density-vary")
    expect(page.locator("#merge-ties-density")).to_be_visible()
    expect(varied.locator("svg")).to_have_count(0)  # only what is opened is there
    varied.locator("[data-do=vary]").click()
    expect(page.locator("#merge-ties-density")).to_be_hidden()
    drag_and_press(page)
    varied.locator("[data-do=add]").click()
    expect(page.locator("#merge-ties-density-1-1 input")).to_have_value("0.9")
    part = varied.locator("input[type=text]")
    part.fill("self_attn")
    part.press("Tab")
    typed = page.locator("#merge-ties-density-0-0 input")
    typed.fill("0.5")
    typed.press("Tab")
    wanted = [{"filter": "self_attn", "value": [0.5, 0.9]}, {"value": [0.3, 0.9]}]
    expect(page.locator("#merge-recipe-text textarea")).to_have_value(re.compile(r"self_attn\n *value:\n *- 0.5\n"))
    assert recipe(page)["vary"] == {"density": wanted}
    expect(page.locator("#merge-scores tbody .merged b").first).to_contain_text("%")  # the preview takes it
    fill(page)


def drag_and_press(page: Page) -> None:
    """The last point up out of the picture, the first two steps up with the keys."""
    handle = page.locator('#merge-ties-density-vary [data-handle="merge-ties-density-0-1"]')
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] - 400, steps=5)
    page.mouse.up()
    last = page.locator("#merge-ties-density-0-1 input")
    expect(last).to_have_value("1")
    last.fill("0.9")
    last.press("Tab")
    first = page.locator('#merge-ties-density-vary [data-handle="merge-ties-density-0-0"]')
    first.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(first).to_have_attribute("aria-valuenow", "0.3")
    expect(first).to_be_focused()


def fill(page: Page) -> None:
    """mergekit's YAML in the place of ours; and one number again."""
    page.locator("#merge-recipe-text textarea").fill(KIT)
    page.locator("#merge-recipe-fill").click()
    expect(page.locator("#merge-weight-0-0-2 input")).to_have_value("1")
    expect(page.locator("#merge-ties-density-1-0 input")).to_have_value("0.5")
    expect(page.locator("#merge-recipe-text textarea")).to_have_value(re.compile("kind: merge"))
    assert recipe(page)["models"] == [{"model": "pocket", "weight": [0.25, 0.5, 1.0]}]
    assert recipe(page)["vary"] == {"density": [{"filter": "self_attn", "value": 0.75}, {"value": 0.5}]}
    page.locator("#merge-ties-density-vary [data-do=one]").click()
    expect(page.locator("#merge-ties-density")).to_be_visible()
    expect(page.locator("#merge-recipe-text textarea")).to_have_value(re.compile(r"vary: \{\}"))


def recipe(page: Page) -> dict:
    return yaml.safe_load(page.locator("#merge-recipe-text textarea").input_value())
