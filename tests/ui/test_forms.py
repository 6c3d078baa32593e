"""Knobs become widgets and come back as typed values; wrong values become sentences, all at once."""

import json
from typing import Literal

import gradio as gr
import pytest

from workbench.core.errors import SpecError
from workbench.core.method import knob, knobs_of
from workbench.core.parts import DataSpec, Spec
from workbench.core.spec import TrainSpec
from workbench.ui import forms


class Sample(Spec):
    """One knob of every kind."""

    rate: float = knob(3e-5, gt=0, le=1, help="how far a step goes", log=True)
    dropout: float = knob(0.1, ge=0, le=1, help="share that is left out")
    odd: float = knob(0.123, ge=0, le=1, help="lies on no stop of a slider")
    rank: int = knob(16, ge=1, le=256, help="width of the matrices", unit="columns")
    seed: int = knob(7, ge=0, le=2**31 - 1, help="fixes the draw", more=True)
    free: float = knob(2.0, help="any number")
    bias: bool = knob(False, help="move biases too")
    few: Literal["a_b", "c"] = knob("a_b", help="two of them")
    many: Literal["a", "b", "c", "d"] = knob("d", help="four of them")
    note: str = knob("q_proj, v_proj", help="which modules")


KNOBS = knobs_of(Sample)


def drawn(values=None):
    with gr.Blocks():
        return forms.fields(KNOBS, values or {}, "sample")


def test_each_knob_gets_the_widget_that_fits():
    kinds = {name: type(widget) for name, widget in drawn().items()}
    assert kinds == {
        "rate": gr.Textbox,
        "dropout": gr.Slider,
        "odd": gr.Textbox,
        "rank": gr.Slider,
        "free": gr.Textbox,
        "bias": gr.Checkbox,
        "few": gr.Radio,
        "many": gr.Dropdown,
        "note": gr.Textbox,
        "seed": gr.Textbox,
    }


def test_unit_is_in_the_label_help_beside_it_and_everything_can_be_typed_in():
    widgets = drawn()
    assert widgets["rank"].label == "Rank (columns)"
    assert forms.label_of(KNOBS[0].__class__("max_tokens", "max tokens", "int", 1, "", unit="tokens")) == "Max tokens"
    assert widgets["rank"].info == "Width of the matrices"
    assert all(widget.interactive and widget.elem_id == f"sample-{name}" and widget.key for name, widget in widgets.items())


def test_more_lies_in_a_folded_accordion():
    assert isinstance(drawn()["seed"].parent.parent.parent, gr.Accordion) or isinstance(drawn()["seed"].parent.parent, gr.Accordion)


def test_defaults_to_widgets_to_collect_are_equal_even_after_json_made_floats_of_them():
    sent = json.loads(json.dumps({name: widget.value for name, widget in drawn().items()}))
    sent["dropout"], sent["rank"] = 0, 16.0
    got = forms.collect(KNOBS, sent)
    assert got == {**Sample().model_dump(), "dropout": 0.0}
    assert type(got["dropout"]) is float and type(got["rank"]) is int
    assert Sample(**got)


def test_a_small_rate_is_written_as_people_write_it_and_reads_back_exactly():
    rate = KNOBS[0]
    for value in (3e-5, 0.00031415926535, 1e-8, 0.1 + 0.2):
        assert forms.coerce(rate, forms.written(rate, value)) == value
    assert forms.written(rate, 3e-5) == "3e-05"


def test_a_knob_without_a_value_keeps_its_default():
    assert forms.collect(KNOBS, {})["rate"] == 3e-5


def test_all_mistakes_come_at_once_each_names_its_knob_and_what_it_may_be():
    wrong = {"rate": "fast", "dropout": 1.5, "rank": 2.5, "seed": "", "free": None, "many": "z", "odd": "nan"}
    with pytest.raises(SpecError) as caught:
        forms.collect(KNOBS, wrong)
    said = caught.value.mistakes
    assert len(said) == len(wrong)
    assert "dropout is 1.5; it must be 0 to 1." in said
    assert "rank is 2.5; it must be a whole number, 1 to 256." in said
    assert "seed is empty; it must be 0 to 2.14748e+09." in said
    assert any(sentence.startswith("rate: 'fast' is not a number") for sentence in said)


@pytest.mark.parametrize(
    ("lo", "hi", "kind", "step"), [(0, 2, "float", 0.01), (0, 0.5, "float", 0.005), (1, 256, "int", 1), (0, 5, "float", 0.05)]
)
def test_the_grain_is_round(lo, hi, kind, step):
    knob_ = KNOBS[1].__class__("k", "k", kind, lo, "", lo=lo, hi=hi)
    assert forms.grain(knob_) == step


def test_the_specs_own_knobs_survive_too():
    for model in (DataSpec, TrainSpec):
        knobs = knobs_of(model)
        with gr.Blocks():
            widgets = forms.fields(knobs, {}, model.__name__)
        assert forms.collect(knobs, {name: widget.value for name, widget in widgets.items()}) == {k.name: k.default for k in knobs}


CHOICES = [("pocket (demo)", "pocket"), ("run 0001 · skill_a", "run:0001"), ("run 0012 · skill_b", "run:0012"), ("skill", "model:skill"),
           ("skill two", "model:skill two")]  # fmt: skip


@pytest.mark.parametrize(("typed", "value"), [
    ("run 0001", "run:0001"), (" Run 0012 · skill_b ", "run:0012"), ("run:0001", "run:0001"), ("pocket", "pocket"), ("poc", "pocket"),
    ("skill", "model:skill"), ("run 00", "run 00"), ("", ""), ("org/name", "org/name"),
])  # fmt: skip
def test_what_is_typed_as_a_label_begins_is_what_it_stands_for(typed: str, value: str) -> None:
    assert forms.meant(typed, CHOICES) == value
