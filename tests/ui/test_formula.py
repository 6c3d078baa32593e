"""Formulas of docstrings become MathML that browsers draw, and no method uses a sign that would be shown as its name."""

import re
from xml.etree import ElementTree

import pytest

from workbench.core.method import SHELVES, Method
from workbench.ui.formula import mathml, unknown

METHODS = [method for methods in SHELVES.values() for method in methods.values()]


def body(latex: str) -> str:
    return mathml(latex).removeprefix('<math display="block"><mrow>').removesuffix("</mrow></math>")


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        ("a^2", "<msup><mi>a</mi><mrow><mn>2</mn></mrow></msup>"),
        ("W'", "<msup><mi>W</mi><mrow><mo>′</mo></mrow></msup>"),
        ("q_t^{\\beta}", "<msubsup><mi>q</mi><mi>t</mi><mrow><mrow><mi>β</mi></mrow></mrow></msubsup>"),
        ("\\frac{1}{M}", "<mfrac><mrow><mn>1</mn></mrow><mrow><mi>M</mi></mrow></mfrac>"),
        ("\\sqrt{x}", "<msqrt><mrow><mi>x</mi></mrow></msqrt>"),
        ("\\hat m", '<mover accent="true"><mi>m</mi><mo>^</mo></mover>'),
        ("\\mathbb{R}", "<mi>ℝ</mi>"),
        ("a - b", "<mi>a</mi><mo>−</mo><mi>b</mi>"),
        ("0.5", "<mn>0.5</mn>"),
        ("\\oddity x", "<mi>oddity</mi><mi>x</mi>"),  # unknown: its name stays
    ],
)
def test_worked_examples(latex: str, expected: str) -> None:
    assert body(latex) == expected


def test_limits_stand_below_the_sign() -> None:
    assert body("\\sum_t x").startswith("<munder><mo") and body("\\sum_{t=1}^T x").startswith("<munderover>")


def test_foreign_signs_are_escaped_and_nothing_breaks_on_open_ends() -> None:
    assert "&lt;" in body("y_{<t}")
    for broken in ("\\frac{", "x^", "{", "}", "\\", "_", "\\left", ""):
        ElementTree.fromstring(mathml(broken))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__module__.rpartition(".")[2])
def test_every_formula_of_every_method_can_be_drawn(method: type[Method]) -> None:
    for latex in re.findall(r"\$\$(.+?)\$\$", method.doc(), re.DOTALL):
        assert not unknown(latex), f"{method.title()}: {unknown(latex)} would be shown as names; teach ui/formula.py"
        ElementTree.fromstring(mathml(latex))


def test_words_in_a_formula_keep_their_spaces() -> None:
    assert ">the\u00a0largest<" in mathml(r"\text{the  largest} x") and "\ue000" not in mathml(r"\text{a b}")
