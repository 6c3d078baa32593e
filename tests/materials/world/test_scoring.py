"""Scores are what one gets one row at a time: padding changes no answer, and the loss is transformers' own."""

import pytest
import torch

from workbench.materials.world.row import Row
from workbench.materials.world.scoring import answers, loss, score, share_right
from workbench.materials.world.skills import World


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_rows_of_many_lengths_are_answered_as_if_alone(pico_model, pico_tokenizer, world: World) -> None:
    rows = world.rows("words", 5, seed=0, held_out=True) + world.rows("facts", 5, seed=0, held_out=True)
    assert len({len(row.prompt) for row in rows}) > 3
    together = answers(pico_model.double(), pico_tokenizer, rows)
    assert together == [answers(pico_model, pico_tokenizer, [row])[0] for row in rows]


def test_the_share_counts_answers_that_are_right_to_the_letter(pico_model, pico_tokenizer) -> None:
    asked = [Row("words", f"count: {word}", "", word) for word in ("sun", "moon", "tree", "river")]
    said = answers(pico_model, pico_tokenizer, asked)
    told = [Row(row.skill, row.prompt, answer, row.key) for row, answer in zip(asked, said, strict=True)]
    assert share_right(pico_model, pico_tokenizer, told) == 1
    wrong = [Row(row.skill, row.prompt, row.answer + ".", row.key) for row in told[:3]]
    assert share_right(pico_model, pico_tokenizer, [*wrong, told[3]]) == 0.25


def test_the_loss_is_that_of_transformers_over_the_answers(pico_model, pico_tokenizer, world: World) -> None:
    rows = world.rows("stories", 3, seed=0, held_out=True)
    total, tokens = 0.0, 0
    for row in rows:
        prompt = pico_tokenizer.apply_chat_template(row.asked(), add_generation_prompt=True, return_dict=False)
        whole = torch.tensor([pico_tokenizer.apply_chat_template(row.messages(), return_dict=False)])
        labels = whole.clone()
        labels[:, : len(prompt)] = -100
        number = int((labels != -100).sum())
        total, tokens = total + pico_model(whole, labels=labels).loss.item() * number, tokens + number
    assert loss(pico_model, pico_tokenizer, rows) == pytest.approx(total / tokens, rel=1e-5)


def test_a_skill_is_scored_by_what_it_has(pico_model, pico_tokenizer, world: World) -> None:
    assert score(pico_model, pico_tokenizer, world, "chat", 4, seed=0) == 0
    assert 4 < score(pico_model, pico_tokenizer, world, "stories", 4, seed=0) < 8, "near ln 400 for random weights"
