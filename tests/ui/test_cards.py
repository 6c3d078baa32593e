"""Cards: an error says what happened first, keeps what was there, and nothing foreign becomes markup."""

import gradio as gr

from workbench.core.errors import SpecError, WorkbenchError
from workbench.ui import cards


def test_an_error_is_what_happened_then_the_rest():
    card = cards.error_card(WorkbenchError("There is no run 0009. Runs are listed on the Runs tab. Choose one of them."))
    assert "<strong>There is no run 0009.</strong>" in card and "Choose one of them." in card


def test_every_mistake_of_a_spec_has_its_line():
    card = cards.error_card(SpecError(["rank is 0; it must be 1 to 256", "alpha is <b>"]))
    assert card.count("<li>") == 2 and "&lt;b&gt;" in card


def test_a_full_stop_inside_a_name_ends_no_sentence():
    assert "<strong>The file rows.v2.jsonl is empty.</strong>" in cards.error_card(
        WorkbenchError("The file rows.v2.jsonl is empty. Choose another.")
    )


def test_a_carded_handler_fills_the_card_and_leaves_the_rest_as_it_was():
    @cards.carded(2)
    def handler(wrong):
        if wrong:
            raise WorkbenchError("It broke. It was wrong. Mend it.")
        return 1, 2

    assert handler(False) == ("", 1, 2)
    card, *others = handler(True)
    assert "It broke." in card and others == [gr.skip(), gr.skip()]


def test_escaped_text_is_neither_markup_nor_template():
    assert not set("<>{$`") & set(cards.escaped("<${{`>"))


def test_a_table_counts_what_it_does_not_draw():
    shown = cards.table(["a"], [[n] for n in range(60)], limit=50)
    assert shown.count("<tr>") == 51 and "and 10 more" in shown
    assert cards.table(["a"], [], empty="Nothing yet.") == '<p class="quiet">Nothing yet.</p>'
