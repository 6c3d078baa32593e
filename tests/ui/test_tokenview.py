"""The token view: tints follow the figures, cards hold data and never markup, and answers part where their tokens first differ."""

import html
import json
import math
import re
from typing import Any

import pytest

from workbench.core.events import Table
from workbench.ui import tokenview
from workbench.ui.tokenview import Held

COLUMNS = ["place", "token", "model", "logp", "kl", "likeliest"]
NAMES = {"pocket": "pocket", "run:0001": "run 0001 · poems"}


def held(model: str = "pocket", logp: float = -1.0, kl: float = 0.0, likeliest: tuple[tuple[str, float], ...] = ()) -> Held:
    return Held(model, logp, kl, likeliest)


def card_data(markup: str) -> Any:
    """What the page reads: the text of the hidden element."""
    found = re.fullmatch(r'<data class="held" hidden>([^<>]*)</data>', markup)
    assert found, "nothing within it may end the element"
    return json.loads(html.unescape(found[1]))


def test_a_token_is_blue_when_likelier_than_under_the_base_and_orange_when_less() -> None:
    assert "series-1" in tokenview.token("a", math.log(0.8), math.log(0.2))
    assert "series-4" in tokenview.token("a", math.log(0.2), math.log(0.8))
    assert "style" not in tokenview.token("a", -1.0, -1.0)


def test_the_tint_is_full_at_three_nats_and_grows_no_more() -> None:
    assert "55%" in tokenview.token("a", 0.0, -tokenview.FULL) and "55%" in tokenview.token("a", 0.0, -50.0)
    assert re.search(r" 2[78]%", tokenview.token("a", 0.0, -tokenview.FULL / 2))


def test_the_tint_by_kl_is_said_for_each_pane_and_full_at_two_nats() -> None:
    drawn = tokenview.token("a", -1.0, -1.0, far=[0.0, tokenview.FAR / 2, 50.0])
    assert "--k0" not in drawn and "--k2:55%" in drawn and re.search(r"--k1:2[78]%", drawn)


def test_without_a_card_the_title_says_both_probabilities() -> None:
    assert 'title="80.0% · under the base 20.0%"' in tokenview.token("a", math.log(0.8), math.log(0.2))
    assert "under 0.1%" in tokenview.token("a", -30.0, 0.0)
    assert "title" not in tokenview.token("a", -1.0, -1.0, number=3)


def test_one_token_of_an_answer_is_reached_with_the_tab_key_and_the_others_from_there() -> None:
    first, second = (tokenview.token("a", -1.0, -1.0, number=number) for number in (0, 1))
    assert 'tabindex="0"' in first and 'tabindex="-1"' in second


def test_a_table_in_long_form_becomes_places_in_their_order() -> None:
    rows = [[1, "b", "x", -1.0, 0.0, []], [0, "a", "x", -0.5, 0.25, [["a", 0.6], ["b", 0.4]]], [0, "a", "y", -2.0, 1.0, []]]
    first, second = tokenview.places(Table("tokens of x", COLUMNS, rows))
    assert first == (held("x", -0.5, 0.25, (("a", 0.6), ("b", 0.4))), held("y", -2.0, 1.0))
    assert [one.model for one in second] == ["x"]


@pytest.mark.parametrize(
    ("first", "other", "place"),
    [("abc", "abc", None), ("abc", "abd", 2), ("abc", "xbc", 0), ("abc", "ab", 2), ("ab", "abc", 2), ("", "a", 0), ("", "", None)],
)
def test_answers_part_at_the_first_token_that_differs_or_where_one_ends(first: str, other: str, place: int | None) -> None:
    assert tokenview.parted(first, other) == place == tokenview.parted(other, first)


def test_of_a_growing_answer_nobody_knows_where_it_ends() -> None:
    assert tokenview.parted("abc", "ab", whole=False) is None
    assert tokenview.parted("abc", "ax", whole=False) == 1


EVIL = "</data><img src=x onerror=alert(1)>&lt;${alert(2)}{{value}}`\\\"'"


def test_a_card_holds_generated_text_as_data_and_never_as_markup() -> None:
    markup = tokenview.cards([(EVIL, (held("pocket", 0.0, 0.5, ((EVIL, 0.25),)),))], {"pocket": EVIL}, "pocket")
    assert not set("{$`") & set(markup) and markup.count("<") == 2
    ((token, ((name, share, kl, likeliest),)),) = card_data(markup)
    assert token == tokenview.shown(EVIL) == likeliest[0][0] and name == EVIL
    assert (share, kl, likeliest[0][1]) == ("100.0%", "0.50", "25.0%")


def test_the_model_that_speaks_stands_first_in_its_cards() -> None:
    place = (held("pocket", kl=1.0), held("run:0001"))
    assert [line[0] for line in card_data(tokenview.cards([("a", place)], NAMES, "run:0001"))[0][1]] == ["run 0001 · poems", "pocket"]


def test_blanks_of_a_token_can_be_seen() -> None:
    assert tokenview.shown(" a\n") == "␣a↵" and tokenview.shown("") == "(part of a letter)"


def test_a_strip_has_a_row_for_each_other_model_with_its_mean() -> None:
    told = [(held("pocket", kl=0.0), held("run:0001", kl=kl)) for kl in (0.0, 1.0, 2.0)]
    drawn = tokenview.strip(told, NAMES, "pocket")
    assert drawn.count("<p") == 1 and "KL to run 0001 · poems" in drawn and "<b>1.00</b>" in drawn
    assert "at most 2.00 at token 3" in drawn
    assert re.findall(r'x="(\d)"[^/]*fill-opacity="([\d.]+)"', drawn) == [("1", "0.50"), ("2", "1.00")]
    assert tokenview.strip(told, {"pocket": "pocket"}, "pocket") == "", "one model alone is far from nobody"


def test_a_strip_of_a_long_answer_keeps_its_farthest_place() -> None:
    told = [(held("run:0001", kl=2.0 if place == 777 else 0.0),) for place in range(1000)]
    drawn = tokenview.strip(told, NAMES, "pocket")
    assert re.findall(r'x="(\d+)"', drawn) == [str(777 // math.ceil(1000 / tokenview.COLUMNS))]


def test_the_legend_offers_a_way_to_tint_for_each_pane_and_none_while_blind() -> None:
    assert tokenview.legend(["a", "b<"]).count('type="radio"') == 3 and "b&lt;" in tokenview.legend(["a", "b<"])
    assert "parts" in tokenview.legend(["a", "b"])
    assert "radio" not in tokenview.legend(["A", "B"], hidden=True) and "radio" not in tokenview.legend(["a"])
