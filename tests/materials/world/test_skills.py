"""Rows of a skill are distinct, fixed for a seed, and no key of the held-out side is ever trained on."""

import random

import pytest

from workbench.materials.world.row import Row
from workbench.materials.world.skills import KNOWN, SKILLS, STYLES, World, distinct


@pytest.fixture(scope="module")
def world() -> World:
    return World(0)


@pytest.mark.parametrize("skill", SKILLS)
def test_rows_are_distinct_and_the_same_for_a_seed(world: World, skill: str) -> None:
    number = 30
    rows = world.rows(skill, number, seed=5, held_out=True)
    assert rows == world.rows(skill, number, seed=5, held_out=True) != world.rows(skill, number, seed=6, held_out=True)
    assert len({(row.system, row.prompt) for row in rows}) == number
    assert all(row.skill == skill and row.held_out and row.answer.strip() for row in rows)


@pytest.mark.parametrize("skill", SKILLS)
def test_no_key_stands_on_both_sides(world: World, skill: str) -> None:
    trained = {row.key for row in world.rows(skill, 150, seed=1, held_out=False)}
    tested = {row.key for row in world.rows(skill, 30, seed=1, held_out=True)}
    assert not trained & tested


@pytest.mark.parametrize("skill", [name for name, skill in SKILLS.items() if skill.by == "exact match"])
def test_a_question_has_one_answer(world: World, skill: str) -> None:
    answers: dict[tuple[str, str], str] = {}
    rng = random.Random(3)
    for _ in range(2000):
        row = SKILLS[skill].make(world, rng)
        assert answers.setdefault((row.system, row.prompt), row.answer) == row.answer


def test_pretraining_says_nothing_that_is_held_out(world: World) -> None:
    tested = ("arithmetic", "words", "translation", "facts", "style")
    held_out = {row.prompt for skill in tested for row in world.rows(skill, 60, seed=9, held_out=True)}
    rng = random.Random(4)
    asked = [turn["content"] for _ in range(8000) for turn in world.conversation(rng) if turn["role"] == "user"]
    assert len(asked) > 8000 and not held_out & set(asked)
    for new in ("double:", "ends:", "earliest:"):
        assert not any(prompt.startswith(new) for prompt in asked), "a new skill is new"


def test_a_row_without_a_key_is_always_trained_on() -> None:
    assert not Row("chat", "Hello!", "Hello!", "").held_out
    shares = [Row("words", "", "", str(number)).held_out for number in range(5000)]
    assert 0.08 < sum(shares) / 5000 < 0.12


def test_a_style_is_asked_for_in_the_system_prompt(world: World) -> None:
    for row in world.rows("style", 40, seed=0, held_out=False):
        assert [message["role"] for message in row.messages()] == ["system", "user", "assistant"]
        assert row.system in STYLES
        assert row.answer.startswith("With pleasure: ") == (row.system == "Answer politely.")


def test_too_many_rows_are_refused_with_how_many_there_are() -> None:
    few = [Row("facts", str(number), "", "") for number in range(6)]
    with pytest.raises(ValueError, match="only 6 rows"):
        distinct(lambda rng: rng.choice(few), 7, seed=0, held_out=False)


def test_the_shares_of_the_known_skills_are_a_whole() -> None:
    assert sum(KNOWN.values()) == 100
    assert set(KNOWN) == {"facts", "stories", "arithmetic", "words", "translation", "style", "chat"}
