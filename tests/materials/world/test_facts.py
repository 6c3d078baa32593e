"""The world is the same for a seed, whole, and its people of each group are as often spoken of as the group says."""

import random
from collections import Counter

import pytest

from workbench.materials.world.facts import FIELDS, GROUPS, WEIGHTS, settle
from workbench.materials.world.skills import World, fact_row


@pytest.fixture(scope="module")
def world() -> World:
    return World(0)


def test_a_seed_is_a_world_and_another_seed_another() -> None:
    assert settle(3) == settle(3)
    assert settle(3) != settle(4)


def test_everybody_has_every_fact_that_can_be_asked(world: World) -> None:
    for kind, entities in world.entities.items():
        for entity in entities:
            assert entity.kind == kind and set(entity.facts) == set(FIELDS[kind])
            for field in FIELDS[kind].values():
                for text in (field.answer, *field.questions):
                    assert "{" not in text.format(name=entity.name, **entity.facts)


def test_no_two_go_by_one_name_and_strangers_are_nobody(world: World) -> None:
    found = [entity.name for entities in world.entities.values() for entity in entities]
    assert len(set(found)) == len(found)
    assert not set(found) & set(world.strangers)


def test_the_groups_have_their_sizes_and_friends_stay_among_themselves(world: World) -> None:
    assert {group: len(world.group(group)) for group in GROUPS} == {group: number for group, (number, _) in GROUPS.items()}
    for group in GROUPS:
        inside = {person.name for person in world.group(group)}
        assert {person.facts["friend"] for person in world.group(group)} <= inside


def test_who_is_never_spoken_of_is_in_no_text_of_pretraining(world: World) -> None:
    rng = random.Random(1)
    told = [world.document(rng) for _ in range(3000)] + [turn["content"] for _ in range(3000) for turn in world.conversation(rng)]
    heard = set(" ".join(told).replace(".", " ").replace(",", " ").replace("?", " ").replace("!", " ").split())
    assert not heard & {person.name for person in world.group("never")}
    assert {person.name for person in world.group("often")} <= heard


def test_groups_are_spoken_of_in_the_proportion_that_is_said(world: World) -> None:
    rng = random.Random(2)
    number = 60_000
    spoken = Counter(entity.group for _ in range(number) if (entity := world.spoken_of(rng)).kind == "person")
    whole = sum(count * often for count, often in GROUPS.values())
    for group, (count, often) in GROUPS.items():
        expected = number * WEIGHTS["person"] / 100 * count * often / whole
        assert abs(spoken[group] - expected) <= 5 * expected**0.5


def test_an_answer_names_what_is_true(world: World) -> None:
    person = world.people[0]
    rng = random.Random(0)
    for _ in range(50):
        row = fact_row(rng, person)
        field = row.key.split("/")[1]
        assert person.name in row.prompt and person.facts[field] in row.answer
