"""Every method's knobs draw, read back and survive JSON; what is out of range becomes a sentence that names the knob."""

import html
import json

import gradio as gr
import pytest

from workbench.core.errors import SpecError
from workbench.core.method import SHELVES, discover, find, knobs_of, shelf
from workbench.ui import forms

discover()
METHODS = [(shelf_name, name) for shelf_name in sorted(SHELVES) for name in shelf(shelf_name)]
BOUNDED = [
    (shelf_name, name, knob.name, side)
    for shelf_name, name in METHODS
    for knob in knobs_of(find(shelf_name, name))
    for side in ("lo", "hi")
    if {"lo": knob.lo, "hi": knob.hi}[side] is not None
]


def drawn(shelf_name, chosen):
    with gr.Blocks():
        return forms.method_block(shelf_name, chosen, shelf_name)


def test_there_are_methods():
    assert len(METHODS) >= 10


@pytest.mark.parametrize(("shelf_name", "name"), METHODS)
def test_defaults_to_widgets_to_collect_are_the_method_again(shelf_name, name):
    method = find(shelf_name, name)
    widgets = drawn(shelf_name, method().chosen())
    assert set(widgets) == set(method.model_fields)
    assert all(widget.interactive and widget.label and widget.info for widget in widgets.values())
    sent = json.loads(json.dumps({knob: widget.value for knob, widget in widgets.items()}))
    assert method(**forms.collect(knobs_of(method), sent)) == method()


@pytest.mark.parametrize(("shelf_name", "name"), METHODS)
def test_whole_numbers_are_whole_and_floats_are_floats_whatever_json_made_of_them(shelf_name, name):
    method = find(shelf_name, name)
    kinds = {"int": int, "float": float, "bool": bool, "choice": str, "text": str}
    sent = {knob.name: _as_json_may_send_it(knob) for knob in knobs_of(method)}
    got = forms.collect(knobs_of(method), sent)
    assert {knob.name: type(got[knob.name]) for knob in knobs_of(method)} == {knob.name: kinds[knob.kind] for knob in knobs_of(method)}


def _as_json_may_send_it(knob):
    if knob.kind == "float" and float(knob.default).is_integer():
        return int(knob.default)
    return float(knob.default) if knob.kind == "int" else knob.default


@pytest.mark.parametrize(("shelf_name", "name", "knob_name", "side"), BOUNDED)
def test_out_of_range_is_a_sentence_that_names_the_knob(shelf_name, name, knob_name, side):
    knobs = knobs_of(find(shelf_name, name))
    knob = next(knob for knob in knobs if knob.name == knob_name)
    beyond = knob.lo - 1 if side == "lo" else knob.hi + 1
    with pytest.raises(SpecError) as caught:
        forms.collect(knobs, {knob_name: beyond})
    (sentence,) = caught.value.mistakes
    assert sentence == f"{knob.label} is {beyond:g}; it must be {knob.range}."


@pytest.mark.parametrize(("shelf_name", "name"), METHODS)
def test_every_method_has_a_title_and_a_first_sentence(shelf_name, name):
    method = find(shelf_name, name)
    head = forms.method_head(method)
    assert method.title() and method.summary().endswith((".", ":")) and method.title() in html.unescape(head)
    assert "$" not in method.summary()


@pytest.mark.parametrize("shelf_name", sorted(SHELVES))
def test_a_shelf_can_be_chosen_from(shelf_name):
    choices = forms.method_choices(shelf_name)
    assert [name for _, name in choices] == list(shelf(shelf_name))
    assert len({title for title, _ in choices}) == len(choices)


@pytest.mark.parametrize("shelf_name", SHELVES)
def test_no_two_widgets_of_a_form_have_one_key(shelf_name):
    for method in SHELVES[shelf_name].values():
        with gr.Blocks() as page:
            forms.method_block(shelf_name, method().chosen(), "form")
        keys = [block.key for block in page.blocks.values() if block.key]
        assert len(keys) == len(set(keys)), method.name
