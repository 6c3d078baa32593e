"""Answers side by side: tints follow the log-probability, both probabilities are said, and nothing a model says becomes markup."""

import math

from workbench.core.events import Said
from workbench.ui import answers


def test_a_token_is_blue_when_likelier_than_under_the_base_and_orange_when_less():
    assert "series-1" in answers.token("a", math.log(0.8), math.log(0.2))
    assert "series-4" in answers.token("a", math.log(0.2), math.log(0.8))
    assert "style" not in answers.token("a", -1.0, -1.0)


def test_the_tint_is_full_at_three_nats_and_grows_no_more():
    assert "55%" in answers.token("a", 0.0, -answers.FULL) and "55%" in answers.token("a", 0.0, -50.0)
    assert " 27%" in answers.token("a", 0.0, -answers.FULL / 2) or " 28%" in answers.token("a", 0.0, -answers.FULL / 2)


def test_the_title_says_both_probabilities():
    assert 'title="80.0% · under the base 20.0%"' in answers.token("a", math.log(0.8), math.log(0.2))
    assert "under 0.1%" in answers.token("a", -30.0, 0.0)


def test_what_a_model_says_is_text_and_never_markup_or_a_template():
    said = Said(1, "pocket", "", "", [["<script>${alert(1)}{{value}}`", -1.0, -1.0]])
    shown = answers.drawn(answers.asked("<b>${x}</b>", ["pocket"], {"pocket": "<i>pocket"}).heard(said))
    assert "<script" not in shown and "<b>${" not in shown and "<i>pocket" not in shown
    assert "${" not in shown and "{{" not in shown and "`" not in shown


def test_panes_stand_in_the_order_of_the_models_and_the_first_is_the_base():
    shown = answers.drawn(answers.asked("hi", ["pocket", "run:0001"], {"run:0001": "run 0001 · poems"}))
    assert shown.index("pocket") < shown.index("run 0001 · poems")
    assert shown.count('class="role"') == 1 and shown.index("role") < shown.index("run 0001")


def test_moved_is_the_mean_change_in_nats():
    assert answers.moved(Said(2, "m", "", "", [["a", -1.0, -2.0], ["b", -1.0, -1.0]])) == 0.5


def test_what_was_said_stays_after_a_stop():
    heard = answers.asked("hi", ["m"], {}).heard(Said(1, "m", "hi", "yes", [], False)).with_words("Stopped.", over=True)
    shown = answers.drawn(heard)
    assert "yes" in shown and "Stopped." in shown and "caret" not in shown
