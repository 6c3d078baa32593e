"""What a set is asked with: which rows are questions, which others stand before them, and what is known of rows that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.workspace import Workspace
from workbench.materials.around import Around
from workbench.materials.asking import Draws, plain
from workbench.materials.corpus import DEMOS
from workbench.materials.formats import read
from workbench.materials.knowing import NO_QUESTION, NO_ROOM, Exchange, Quiz, Shown, asked, edges, exchange, known, unasked
from workbench.materials.rows import Example

DRAWS = Draws(4, 0.5, 0)


def row(question: str, answer: str, **meta: object) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), meta=meta)


def one(question: str, answer: str = "yes") -> Exchange:
    return Exchange("", question, answer)


def shown(exchanges: list[tuple[Exchange, str]], seed: int = 0) -> Shown:
    found = Shown(seed)
    for exchange_, kind in exchanges:
        found.see(exchange_, kind)
    return found


def test_a_question_with_a_short_answer_is_asked_and_nothing_else() -> None:
    system, user, said = ({"role": role, "content": role.title()} for role in ("system", "user", "assistant"))
    assert exchange(Example((user, said))) == Exchange("", "User", "Assistant")
    assert exchange(Example((system, user, said))) == Exchange("System", "User", "Assistant")
    call = {"role": "assistant", "content": "Yes", "tool_calls": [{"id": "1"}]}
    for turns in ((), (user,), (said,), (user, said, user, said), (user, user, said), (system, system, user, said), (user, call)):
        assert exchange(Example(turns)) is None
    assert exchange(Example(text="Ask. Tell.", learn=((4, 9),))) is None
    for question, answer in (("", "yes"), ("?", "yes"), ("Who?", ""), ("Who?", "…"), ("Who?", "y" * 641)):
        assert exchange(row(question, answer)) is None
    assert exchange(row("Who?", "y " * 320)) is not None, "its tokens are counted where the model's are known"


QUESTIONS = st.lists(st.sampled_from(["Who?", "who", "WHO!", "The who?", "Where?", "Why?", "When?", "How?"]), min_size=1, max_size=30)


@given(questions=QUESTIONS, kinds=st.lists(st.sampled_from(["", "a", "b"]), min_size=30, max_size=30), count=st.integers(0, 6))
def test_no_example_asks_the_row_s_own_question_and_none_stands_there_twice(questions: list[str], kinds: list[str], count: int) -> None:
    pool = shown([(one(question, str(place)), kinds[place]) for place, question in enumerate(questions)])
    different = {plain(question) for question in questions}
    for place, question in enumerate(questions):
        for turn in range(3):
            before = [plain(other.question) for other in pool.before(question, kinds[place], turn, count)]
            assert plain(question) not in before and len(before) == len(set(before)) == min(count, len(different) - 1)


def test_examples_are_of_the_row_s_class_first_and_short() -> None:
    pool = shown([(one(f"town {place}"), "town") for place in range(5)] + [(one(f"pet {place}"), "pet") for place in range(90)])
    assert {other.question for other in pool.before("town 0", "town", 0, 4)} == {f"town {place}" for place in range(1, 5)}
    more = pool.before("town 0", "town", 0, 6)
    assert len(more) == 6 and all(other.question.startswith("town") for other in more[:4]), "the rest comes from the others"
    assert all(other.question.startswith("pet") for other in pool.before("town 0", "pet", 0, 9))
    twice = shown([(one("Who?", "the first"), ""), (one("who", "the second"), "")])
    assert [other.answer for other in twice.before("Where?", "", 0, 9)] == ["the first"]
    long = shown([(one("q" * 401), ""), (one("q", "a" * 161), ""), (one("q" * 400, "a" * 160), "")])
    assert [len(other.question) for other in long.before("", "", 0, 9)] == [400]


def test_the_order_of_the_rows_does_not_matter_and_one_more_changes_few_prompts() -> None:
    rows = [(one(f"question {place}"), "") for place in range(200)]
    forth, back = shown(rows), shown(rows[::-1])
    more, other = shown([*rows, (one("another question"), "")]), shown(rows, seed=1)
    prompts = [
        [pool.before(f"question {place}", "", turn, 4) for place in range(200) for turn in range(3)] for pool in (forth, back, more, other)
    ]
    assert prompts[0] == prompts[1] != prompts[3]
    assert sum(before != after for before, after in zip(prompts[0], prompts[2], strict=True)) < 200
    assert len({tuple(found) for found in prompts[0]}) > 590, "each row and each prompt has its own"


def test_all_questions_of_a_prompt_are_put_in_the_same_words() -> None:
    prompt = asked(Exchange("Be brief.", "Who?", "I."), [one("Where?", "There.")], "Say: {question} Well?")
    assert prompt == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say: Where? Well?"},
        {"role": "assistant", "content": "There."},
        {"role": "user", "content": "Say: Who? Well?"},
    ]


def test_what_is_known_stands_at_its_row_and_rows_that_are_not_asked_say_why() -> None:
    rows = [row("Who?", "He."), Example(text="plain"), row("Where?", "There."), row("Why?", "So " * 90)]
    answers = {rows[0].as_text(): (1, 2, 3, 4), rows[2].as_text(): (2, 2, 4, 4), rows[3].as_text(): (0, 0, 0, 0)}
    counts, without = drain(known(rows, Given(answers=answers), Quiz(("{question}",) * 2, 4, "", DRAWS), "", "It"))
    assert counts == [[1, 2, 3, 4], [0] * 4, [2, 2, 4, 4], [0] * 4] and without == {1: NO_QUESTION, 3: NO_ROOM}
    assert drain(known([Example(text="plain")], Given(answers={}), Quiz(("{question}",), 4, "", DRAWS), "", "It"))[1] == {0: NO_QUESTION}
    assert unasked(without, True) == "; 2 rows could not be asked and stay" and not unasked(without, False) and not unasked({}, True)


def test_each_template_is_a_prompt_and_a_class_gives_the_examples() -> None:
    class Noting(Given):
        def answers(self, examples, prompts, draws, reader=""):  # type: ignore[no-untyped-def,override]
            self.prompts = {example.question(): prompts(example) for example in examples}
            return super().answers(examples, prompts, draws, reader)

    rows = [row(f"{kind} {place}?", "yes", kind=kind) for kind in ("town", "pet") for place in range(6)]
    around = Noting()
    counts, _ = drain(known(rows, around, Quiz(("{question}", "So: {question}"), 3, "kind", DRAWS), "", "It"))
    assert [count[1] for count in counts] == [2] * 12
    for question, (first, second) in around.prompts.items():
        assert first[-1]["content"] == question and second[-1]["content"] == f"So: {question}" and len(first) == len(second) == 7
        assert {turn["content"].split()[0] for turn in first if turn["role"] == "user"} == {question.split()[0]}
    with pytest.raises(
        WorkbenchError, match=r"^It takes examples of the class that the column 'sort' names, and no row has one\. .* kind\.$"
    ):
        drain(known(rows, around, Quiz(("{question}",), 3, "sort", DRAWS), "", "It"))


def test_lines_lie_half_way_between_levels_that_stay_and_levels_that_go() -> None:
    scores, levels = [0.0, 1.2, 1.4, 2.4, 3.5, float("nan")], [0, 1, 1, 2, 3, -1]
    assert edges(scores, levels, {1, 2, 3}) == (0.6,) and edges(scores, levels, {2}) == pytest.approx((1.9, 2.95))
    assert edges(scores, levels, {0, 1, 2, 3}) == edges(scores, levels, set()) == edges([], [], {1}) == ()
    assert edges([0.0, 3.0], [0, 3], {1, 3}) == (1.5,)


def test_answers_are_the_same_alone_in_another_order_and_from_the_disk(workspace: Workspace, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = [example for example in read(DEMOS / "new_facts.csv") if isinstance(example, Example)][:4]
    prompts = lambda example: [asked(exchange(example), [], "{question}")] * 2  # noqa: E731
    draws = Draws(5, 1.0, 0)
    near = Around(workspace)
    found = drain(near.answers(rows, prompts, draws))
    assert found[:, 1].tolist() == [2.0] * 4 and found[:, 3].tolist() == [10.0] * 4 and 0 < found[:, 2].sum() < 40
    other = Around(Workspace(tmp_path / "other"))
    assert found.flip(0).equal(drain(other.answers(rows[::-1], prompts, draws)))
    alone = Around(Workspace(tmp_path / "alone"))
    assert [drain(alone.answers([example], prompts, draws))[0].tolist() for example in rows] == found.tolist()
    assert not list(near.answers(rows, prompts, draws)), "nothing is asked twice"
    for changed in (Draws(6, 1.0, 0), Draws(5, 0.9, 0), Draws(5, 1.0, 1)):
        assert len(list(near.answers(rows, prompts, changed))) == 4, "each row is a sign of life"
    assert len(list(near.answers([row(rows[0].question(), "Another answer.")], prompts, draws))) == 1
    assert len(list(near.answers(rows, lambda example: prompts(example)[:1], draws))) == 4
