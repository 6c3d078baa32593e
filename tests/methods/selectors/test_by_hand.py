"""By hand: marked rows go or are rewritten wherever they stand, and nothing else is touched."""

import json

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.corpus import mark
from workbench.materials.rows import Example
from workbench.methods.selectors.by_hand import ByHand, saying

AROUND = Given()


def row(question: str, answer: str) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}), meta={"n": 1})


ROWS = [row("a", "b"), row("c", "d"), row("e", "f"), Example(text="ask tell", learn=((4, 8),))]


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1], [*ROWS, *ROWS]])
def test_marked_rows_go_wherever_they_stand(rows: list[Example]) -> None:
    found = drain(ByHand(drop=f"{mark(ROWS[1])}, {mark(ROWS[3])} 0123").keep(rows, AROUND))
    assert [row for row, stays in zip(rows, found.kept, strict=True) if not stays] == [row for row in rows if row in (ROWS[1], ROWS[3])]
    assert set(found.reasons) == {place for place, stays in enumerate(found.kept) if not stays} and not found.changed


def test_a_rewritten_row_has_another_last_answer_and_nothing_else() -> None:
    edits = {mark(ROWS[2]): "g", mark(ROWS[3]): "Told.", mark(ROWS[0]): "z"}
    found = drain(ByHand(drop=mark(ROWS[0]), edits=json.dumps(edits)).keep(ROWS, AROUND))
    assert found.changed == {2: row("e", "g"), 3: Example(text="Told.")} and found.kept == [False, True, True, True]
    two = Example(({"role": "assistant", "content": "1"}, {"role": "user", "content": "2"}, {"role": "assistant", "content": "3"}))
    assert [turn["content"] for turn in saying(two, "4").messages] == ["1", "2", "4"]
    only_asked = Example(({"role": "user", "content": "a"},))
    assert saying(only_asked, "b") == only_asked


@pytest.mark.parametrize("edits", ["{", "[1]", '{"a": 1}'])
def test_edits_that_cannot_be_read_are_a_sentence(edits: str) -> None:
    with pytest.raises(WorkbenchError, match="edits is no"):
        drain(ByHand(edits=edits).keep(ROWS, AROUND))
