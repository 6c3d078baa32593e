"""Gradients as selectors ask for them: read once under all that decides them, stopped and taken up; and selectors that go by real ones."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.workspace import Workspace
from workbench.materials import around, gradients
from workbench.materials.around import Around
from workbench.materials.gradients import Taught, warmed_up
from workbench.materials.rows import Example
from workbench.materials.world.skills import World
from workbench.methods.contracts import Selector
from workbench.methods.selectors.influence import Influence
from workbench.methods.selectors.information_gain import InformationGain
from workbench.methods.selectors.less import Less


def chat(question: str, answer: str) -> Example:
    return Example(({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


ROWS = [chat(f"What is {number}?", f"It is {'very ' * number}good.") for number in range(12)]
MUTE = Example(({"role": "user", "content": "Only a question."},))


@pytest.fixture
def near(pico_folder: Path, workspace: Workspace) -> Around:
    return Around(workspace, str(pico_folder))


def test_they_are_those_of_each_row_alone(near: Around, pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    found = drain(near.gradients([*ROWS, MUTE, ROWS[0]], warm=ROWS[:3], adam=True, seed=5))
    taught = Taught(drain(warmed_up(pico_model, pico_tokenizer, ROWS[:3], 5)), adam=True, seed=5)
    for row, mine in zip(ROWS, found, strict=False):
        alone = taught.read(pico_model, pico_tokenizer, [row])[0].float()
        assert float((mine.float() - alone).norm()) < 0.02 * float(alone.norm())
    assert found.shape == (14, 1024) and torch.equal(found[0], found[13]) and found.isnan().any(1).tolist() == [False] * 12 + [True, False]
    assert drain(near.gradients([])).shape[0] == 0


def test_what_decides_them_is_told_apart_and_each_is_read_once(near: Around, workspace: Workspace, pico_folder: Path) -> None:
    asked = [{}, {"seed": 1}, {"warm": ROWS[:3]}, {"warm": ROWS[1:4]}, {"warm": ROWS[:3], "adam": True}]
    found = [drain(near.gradients(ROWS, **each)) for each in asked]
    assert all(not torch.equal(found[one], found[other]) for one in range(5) for other in range(one))
    again = Around(workspace, str(pico_folder))
    for each, before in zip(asked, found, strict=True):
        work = list(again.gradients(ROWS[::-1], **each))
        assert not work and torch.equal(drain(again.gradients(ROWS[::-1], **each)), before.flip(0))
    assert not again._open, "a model is not loaded for what is known"


def test_a_stop_loses_no_row_and_no_warm_up(near: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(around, "AT_ONCE", 1)
    work = near.gradients(ROWS, warm=ROWS[:4])
    said = [next(work) for _ in range(5)]
    assert [(one.done, one.total, one.what) for one in said[:2]] == [(0, 16, "rows of the warm-up"), (8, 16, "rows of the warm-up")]
    assert [one.done for one in said[2:]] == [0, 1, 2]
    work.close()
    assert [(one.done, one.total) for one in near.gradients(ROWS, warm=ROWS[:4])][:2] == [(0, 10), (1, 10)]


def test_what_a_row_does_not_say_does_not_matter(near: Around) -> None:
    drain(near.gradients(ROWS[:2]))
    assert not list(near.gradients([Example(ROWS[0].messages, source="file", line=3, meta={"column": 1})]))


def test_another_version_is_read_anew(near: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    drain(near.gradients(ROWS[:2]))
    monkeypatch.setattr(gradients, "VERSION", gradients.VERSION + 1)
    assert list(near.gradients(ROWS[:2]))


class Exam(Around):
    """The real thing, with a data set of two rows beside it."""

    exam: list[Example]

    def rows(self, name: str, asks: str) -> list[Example]:
        return self.exam


@pytest.mark.parametrize("method", [Less(), Influence(), InformationGain()], ids=lambda method: method.name)
def test_a_row_of_the_target_in_the_pool_is_among_the_first(method: Selector, workspace: Workspace, pico_folder: Path) -> None:
    pool = [chat(row.prompt, row.answer) for row in World().rows("facts", 120, seed=0, held_out=False)]
    near = Exam(workspace, str(pico_folder))
    near.exam = [
        chat("Which way is the sea?", "Down the hill, then left at the old mill."),
        chat("Shall we go?", "No: it is far too late!"),
    ]
    found = drain(method.keep([*pool, *near.exam], near))
    ranks = sorted(range(122), key=lambda row: -found.scores[row])
    assert set(ranks[:2]) == {120, 121} and found.kept[120] and found.kept[121]


def test_a_target_of_which_nothing_is_learnt_is_a_sentence(workspace: Workspace, pico_folder: Path) -> None:
    near = Exam(workspace, str(pico_folder))
    near.exam = [MUTE]
    with pytest.raises(WorkbenchError, match=r"^Nothing is learnt of any row of the target"):
        drain(Less().keep(ROWS, near))
