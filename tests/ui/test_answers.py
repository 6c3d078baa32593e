"""Answers side by side: panes in their order, nothing a model says becomes markup, and blind panes give nobody away."""

from dataclasses import replace
from typing import Any

from workbench.core.events import Said, Table
from workbench.ui import answers
from workbench.ui.answers import Answers

TWO = ["pocket", "run:0001"]
LABELS = {"pocket": "pocket (demo)", "run:0001": "run 0001 · poems"}


def said(speaker: str, *texts: str, done: bool = True) -> Said:
    """Half as likely under the base as under the speaker, token by token."""
    return Said(len(texts), speaker, "hi", "".join(texts), [[text, -1.0, -2.0] for text in texts], done)


def looked(speaker: str, *texts: str, models: list[str] = TWO) -> Table:
    rows: list[list[Any]] = [
        [n, text, model, -1.0, 0.5 * (model != speaker), [["x", 0.5]]] for n, text in enumerate(texts) for model in models
    ]
    return Table(f"tokens of {speaker}", ["place", "token", "model", "logp", "kl", "likeliest"], rows)


def both(*, over: bool = True) -> Answers:
    """Two answers that part at their second token, and what was seen of their tokens."""
    found = answers.asked("hi", TWO, LABELS).heard(said("pocket", "He", "llo")).heard(said("run:0001", "He", "ya", "!"))
    found = found.looked_at(looked("pocket", "He", "llo")).looked_at(looked("run:0001", "He", "ya", "!"))
    return found.with_words("", over=over)


def test_what_a_model_says_is_text_and_never_markup_or_a_template() -> None:
    evil = "<script>${alert(1)}{{value}}`<img src=x onerror=alert(1)>"
    shown = answers.asked("<b>${x}</b>", ["pocket"], {"pocket": "<i>pocket"}).heard(said("pocket", evil))
    shown = shown.looked_at(looked("pocket", evil, models=["pocket"]))
    for drawn in (answers.drawn(shown), answers.past([shown.settled()])):
        assert "<script" not in drawn and "<b>${" not in drawn and "<i>pocket" not in drawn and "<img" not in drawn
        assert "${" not in drawn and "{{" not in drawn and "`" not in drawn


def test_the_question_stands_as_it_was_typed_and_as_it_was_asked_where_these_differ() -> None:
    typed = answers.asked("Who?", TWO, LABELS)
    framed = typed.heard(Said(0, "pocket", "In <rhymes>: Who?", "")).heard(Said(1, "run:0001", "In <rhymes>: Who?", "You"))
    for drawn in (answers.drawn(framed), answers.past([framed.settled()]), answers.drawn(framed.shuffled("0007"))):
        assert drawn.count('<blockquote class="asked">Who?</blockquote>') == 1
        assert drawn.count("The models were asked: “In &lt;rhymes&gt;: Who?”") == 1
        assert drawn.index("asked: “") < drawn.index('class="pane"')
    for drawn in (answers.drawn(typed), answers.drawn(typed.heard(Said(1, "pocket", "Who?", "Me")))):
        assert "The models were asked" not in drawn and drawn.count("Who?") == 1


def test_panes_stand_in_the_order_of_the_models_and_the_first_is_the_base() -> None:
    shown = answers.drawn(answers.asked("hi", TWO, LABELS))
    assert shown.index("pocket") < shown.index("run 0001 · poems")
    assert shown.count('class="role"') == 1 and shown.index("role") < shown.index("run 0001")


def test_moved_is_the_mean_change_in_nats() -> None:
    assert answers.moved(Said(2, "m", "", "", [["a", -1.0, -2.0], ["b", -1.0, -1.0]])) == 0.5


def test_what_was_said_stays_after_a_stop() -> None:
    heard = answers.asked("hi", ["m"], {}).heard(Said(1, "m", "hi", "yes", [], False)).with_words("Stopped.", over=True)
    shown = answers.drawn(heard)
    assert "yes" in shown and "Stopped." in shown and "caret" not in shown


def test_the_mark_stands_where_an_answer_parts_from_the_bases() -> None:
    drawn = answers.drawn(both())
    assert drawn.count('class="fork"') == 1
    assert drawn.index(">ya<") > drawn.index('class="fork"') > drawn.rindex(">He<")


def test_tokens_have_cards_and_strips_once_they_have_been_looked_at() -> None:
    before = answers.drawn(answers.asked("hi", TWO, LABELS).heard(said("pocket", "He")))
    assert "data-n" not in before and "title=" in before
    after = answers.drawn(both())
    assert after.count("data-n") == 5 and after.count('class="held"') == 2 and after.count("KL to") == 4  # rows and their titles


def test_a_table_about_something_else_is_not_heard() -> None:
    shown = both()
    assert shown.looked_at(Table("layers", ["layer"], [[1]])) is shown


def test_blind_panes_give_nobody_away() -> None:
    blind = both().shuffled("0007")
    drawn = answers.drawn(blind)
    for telling in ("pocket", "run", "0001", "poems", 'class="role"', "style=", "title=", "nats", "data-n", "KL", "fork"):
        assert telling not in drawn, f"{telling} tells who answered"
    assert "<b>A</b>" in drawn and "<b>B</b>" in drawn and "Heya!" in drawn


def test_the_lot_alone_decides_the_order() -> None:
    models = ["a", "b", "c", "d"]
    orders = {lot: list(answers.asked("hi", models, {}).shuffled(lot).panes) for lot in map(str, range(40))}
    assert all(sorted(order) == models for order in orders.values())
    assert orders["7"] == list(answers.asked("hi", models, {}).shuffled("7").panes)
    assert {order[0] for order in orders.values()} == set(models), "everybody comes first with some lot"


def test_after_the_reveal_the_panes_stay_where_they_are_under_letter_and_name() -> None:
    blind = both().shuffled("0007")
    told = replace(blind, revealed=True)
    assert list(told.panes) == list(blind.panes)
    assert sorted(told.names().values()) == sorted(f"{letter} · {LABELS[model]}" for letter, model in zip("AB", told.panes, strict=True))
    assert "nats a token against the base" in answers.drawn(told) and answers.drawn(told).count('class="role"') == 1


def test_a_turn_that_is_past_keeps_the_words_and_drops_the_weight() -> None:
    drawn = answers.past([both().settled()])
    assert "Hello" in drawn and "Heya!" in drawn and "data-n" not in drawn and 'class="held"' not in drawn


def test_the_template_is_told_escaped_but_not_while_blind() -> None:
    shown = replace(both(), template="<|user|>${hi}")
    assert "&lt;|user|&gt;" in answers.reads(shown) and "${" not in answers.reads(shown)
    assert answers.reads(shown.shuffled("0007")) == "" and answers.reads(both()) == ""
