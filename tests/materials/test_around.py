"""What a model makes of rows: equal to reading each alone, read once, resumable; and the rows of other data sets."""

import os
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.workspace import Workspace
from workbench.materials import around, readings
from workbench.materials.around import Around, without_question
from workbench.materials.models import ModelRef
from workbench.materials.rows import Example


def row(question: str, answer: str, system: str = "") -> Example:
    told = ({"role": "system", "content": system},) if system else ()
    return Example((*told, {"role": "user", "content": question}, {"role": "assistant", "content": answer}))


ROWS = [
    row("Who is it?", "It is Zuloko."),
    row("", "It is Zuloko."),
    row("What pet does he have?", "A hen, and a cat. " * 9),
    row("Why?", ""),
]


@pytest.fixture
def near(pico_folder: Path, workspace: Workspace) -> Around:
    return Around(workspace, str(pico_folder))


def test_vectors_are_those_of_each_text_alone(near: Around, pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    found = drain(near.vectors([*ROWS, ROWS[0]]))
    for example, vector in zip([*ROWS, ROWS[0]], found, strict=True):
        ids = torch.tensor([pico_tokenizer(example.as_text())["input_ids"]])
        with torch.no_grad():
            alone = pico_model.base_model(ids).last_hidden_state[0].mean(0)
        assert torch.allclose(vector, alone / alone.norm(), atol=2e-3)  # kept in half precision
    assert torch.equal(found[0], found[-1]) and drain(near.vectors([])).shape[0] == 0


def test_surprise_is_that_of_the_learnt_tokens_alone(
    near: Around, pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    (lost, many), nothing = (drain(near.surprise(ROWS))[place].tolist() for place in (0, 3))
    text = "<|user|>Who is it?<|end|><|assistant|>"
    before, ids = (pico_tokenizer(part)["input_ids"] for part in (text, text + "It is Zuloko.<|end|>"))
    with torch.no_grad():
        table = pico_model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = -sum(table[place - 1, ids[place]].item() for place in range(len(before), len(ids)))
    assert many == len(ids) - len(before) and lost == pytest.approx(expected, rel=1e-4)
    assert nothing[1] == 1 and nothing[0] > 0  # the end mark of an empty answer


def test_without_a_question_the_answer_costs_the_same_both_ways(near: Around) -> None:
    given, alone = drain(near.surprise(ROWS)), drain(near.surprise(ROWS, alone=True))
    assert torch.equal(given[1], alone[1]) and torch.equal(given[:, 1], alone[:, 1])
    assert not torch.isclose(given[0, 0], alone[0, 0])
    assert without_question(row("Who?", "I.", system="Be brief.")) == row("", "I.")
    assert without_question(Example(text="ask tell", learn=((4, 8),))) == Example(text="tell")


def test_a_row_that_cannot_be_rendered_has_no_surprise(near: Around) -> None:
    found = drain(near.surprise([Example(({"role": "user", "content": "Only a question."},)), ROWS[0]]))
    assert found[0].isnan()[0] and found[0, 1] == 0 and found[1].isfinite().all()


def test_no_text_is_read_twice_and_a_stop_loses_nothing(near: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(around, "AT_ONCE", 1)
    work = near.vectors(ROWS)
    assert [next(work).done for _ in range(3)] == [0, 1, 2]
    work.close()
    again = list(near.vectors([*ROWS, row("New?", "Yes.")]))
    assert [(said.done, said.total) for said in again] == [(0, 3), (1, 3), (2, 3)]
    assert not list(near.vectors(ROWS[::-1])) and len(list(near.vectors(ROWS, pooling="last"))) == 4


def test_copies_are_read_once_and_what_was_read_lies_on_the_disk(
    near: Around, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [said.total for said in near.vectors([ROWS[0]] * 3)] == [1]
    monkeypatch.setattr(around, "AT_ONCE", 1)
    monkeypatch.setattr(around, "KEPT", 1)
    work, files = near.surprise(ROWS), lambda: len(list(workspace.cache("readings").glob("surprise-*/*.safetensors")))
    assert [(next(work).done, files()) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]


def test_rows_with_one_text_and_other_calls_are_read_each(near: Around) -> None:
    def calling(name: str) -> Example:
        call = {"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        return Example(({"role": "user", "content": "Do."}, {"role": "assistant", "content": "", "tool_calls": [call]}))

    assert calling("a").as_text() == calling("b").as_text()
    assert [said.total for said in near.surprise([calling("a"), calling("b")])] == [2]


def test_another_model_reads_anew(near: Around, pico_folder: Path, workspace: Workspace) -> None:
    drain(near.vectors(ROWS))
    config = pico_folder / "generation_config.json"
    before = config.stat()
    os.utime(config, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert list(Around(workspace, str(pico_folder)).vectors(ROWS))


def test_readings_beyond_the_bound_go_once_new_ones_were_made(near: Around, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "RECENT", -1.0)
    monkeypatch.setattr(readings, "MOST", 0)
    assert len(drain(near.vectors(ROWS))) == 4 and not [*workspace.cache("readings").glob("*/*")]
    monkeypatch.setattr(readings, "MOST", 10**9)
    drain(near.vectors(ROWS))
    monkeypatch.setattr(readings, "MOST", 0)
    assert not list(near.vectors(ROWS)) and [*workspace.cache("readings").glob("*/*")], "nothing was new"


def test_another_revision_of_a_hub_id_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub cache tells which is here; of a model that is not here nothing is known."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    ref, repo = ModelRef("org/name", "org/name", "org/name"), tmp_path / "models--org--name"
    states = [around.state_of(ref)]
    (repo / "refs").mkdir(parents=True)
    for revision in ("a" * 40, "b" * 40, "a" * 40):
        (repo / "refs" / "main").write_text(revision)
        (repo / "snapshots" / revision).mkdir(parents=True, exist_ok=True)
        (repo / "snapshots" / revision / "config.json").write_text("{}")
        states.append(around.state_of(ref))
    assert len({*states}) == 3 and states[1] == states[3]


def test_rows_of_another_set_come_by_name(near: Around) -> None:
    assert len(near.rows("quickstart", "Copies")) > 100
    with pytest.raises(WorkbenchError, match="Copies needs a second data set to go by, and none is named"):
        near.rows("", "Copies")
