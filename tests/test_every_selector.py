"""The laws of the selectors' shelf, held against every one of them (`methods/contracts.py` states them)."""

import pytest
from surroundings import Given, Hearing

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.method import Method, discover, shelf
from workbench.materials.rows import Example

discover()
AROUND = Given()
SELECTORS = list(shelf("selectors").values())
EXAMPLES = [
    Example(messages=({"role": "user", "content": question}, {"role": "assistant", "content": answer}))
    for question, answer in [("a", "b"), ("a", "b"), ("What is it?", ""), ("x" * 5000, "y" * 9000), ("Where?", "There, by the river.")]
]


@pytest.mark.parametrize("method", SELECTORS, ids=lambda method: method.name)
def test_a_selector_answers_for_each_example_and_gives_reasons(method: type[Method]) -> None:
    first, again = (drain(method().keep(EXAMPLES, AROUND)) for _ in range(2))
    assert len(first.kept) == len(EXAMPLES) and first == again
    assert set(first.reasons) == {index for index, kept in enumerate(first.kept) if not kept}
    assert drain(method().keep([], AROUND)).kept == []


@pytest.mark.parametrize("part", ["row", "question", "answer"])
@pytest.mark.parametrize("method", [method for method in SELECTORS if "model" in method.model_fields], ids=lambda method: method.name)
def test_a_selector_that_reads_asks_for_what_its_knobs_say(method: type[Method], part: str) -> None:
    wanted = {"model": "named", "pooling": "last", "text": part, "compare": part, "target": "exam", "score": "surprise"}
    asked = {name: value for name, value in wanted.items() if name in method.model_fields}
    around = Hearing({"exam": EXAMPLES[3:]})
    drain(method(**asked).keep(EXAMPLES, around))
    readers = {reader for reader, *_ in [*around.vectors_of, *around.gradients_of, *around.answers_of]} | set(around.surprise_of)
    assert readers == {"named"}
    assert bool(around.vectors_of) == bool({"text", "compare"} & asked.keys())
    assert all(read == part for _, _, read in around.vectors_of)
    assert "pooling" not in asked or {pooling for _, pooling, _ in around.vectors_of} == {"last"}


@pytest.mark.parametrize("part", ["row", "question", "answer"])
@pytest.mark.parametrize(
    "method", [one for one in SELECTORS if {"target", "text"} <= set(one.model_fields)], ids=lambda method: method.name
)
def test_a_target_without_text_to_compare_is_a_sentence(method: type[Method], part: str) -> None:
    says = {"question": "Where?", "answer": "There.", part: " "} if part != "row" else {"question": "", "answer": ""}
    mute = Example(({"role": "user", "content": says["question"]}, {"role": "assistant", "content": says["answer"]}))
    speaks = Example(({"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There."}))
    asked = method(target="exam", text=part)
    with pytest.raises(WorkbenchError, match=r"^No row of the target has any text.* Compare another part of the rows"):
        drain(asked.keep([speaks], Given(sets={"exam": [mute, mute]})))
    assert drain(asked.keep([speaks], Given(sets={"exam": [mute, speaks]}))).kept == [True]
