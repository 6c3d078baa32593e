"""The audit: what is lost, whether the model learns to stop, whether it fits; what stops the start and what can be passed."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from pico import make_model

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.words import size
from workbench.core.workspace import Workspace
from workbench.jobs import audit as module
from workbench.jobs import estimate, recipe
from workbench.jobs.audit import audit, refuse
from workbench.jobs.prepare import prepare
from workbench.methods.adapters.lora import LoRA
from workbench.methods.updates.adamw import AdamW

Usage = namedtuple("Usage", "total used free")
SHORT, LONG = "It is.", "It is so because it is so, and nothing else. " * 4


def spec_for(model: Path, folder: Path, turns: list[tuple[str, ...]], **more: Any) -> TrainSpec:
    path = folder / "rows.jsonl"
    rows = [[{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(row)] for row in turns]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    data = {"path": str(path), "max_length": 48, **more.pop("data", {})}
    return TrainSpec(model=str(model), data=data, **more)


def said(spec: TrainSpec, workspace: Workspace, level: str = "") -> list[str]:
    return [finding.text for finding in audit(spec, workspace) if not level or finding.level == level]


def test_a_sound_run_has_nothing_but_ticks(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30)
    assert said(spec, workspace, "watch") == said(spec, workspace, "act") == []
    assert "The end of the answer is learnt in every row, so the model learns to stop." in said(spec, workspace, "safe")
    refuse(spec, workspace)


def test_rows_cut_in_an_answer_are_told_apart_from_rows_cut_behind_one(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    rows = [("Why?", SHORT)] * 5 + [("Why?", LONG)] * 3 + [("Why?", SHORT, "But why? " * 20, LONG)] * 2 + [("Why? " * 30, SHORT)]
    found = said(spec_for(pico_folder, tmp_path, rows), workspace, "watch")
    assert [text.split(" is ")[0].split(" are ")[0].split(" lose ")[0] for text in found] == [
        "1 row with nothing to learn", "3 rows", "2 rows",
    ]  # fmt: skip
    assert "cut in the middle of the answer, so its end is never learnt. Raise the longest row (the longest here has" in found[1]
    assert "lose text behind an answer" in found[2]
    assert not any("learns to stop" in text for text in said(spec_for(pico_folder, tmp_path, rows), workspace, "safe"))


def test_a_template_that_closes_no_answer_is_told_with_what_to_do(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    (pico_folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}")
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 40)
    (text,) = said(spec, workspace, "watch")
    assert text.startswith("In 40 rows the answer's end is not learnt") and "may not learn to stop. Use a model whose chat template" in text
    assert not any("learns to stop" in other for other in said(spec, workspace, "safe"))
    cut, open_ended = said(spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 4 + [("Why?", LONG)]), workspace, "watch")
    assert cut.startswith("1 row is cut in the middle") and open_ended.startswith("In 4 rows"), "either is told"


def test_only_the_first_rows_of_a_big_set_are_spoken_of(
    pico_folder: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "MEASURED", 10)
    found = said(spec_for(pico_folder, tmp_path, [("Why?", LONG)] * 30), workspace)
    assert any(text.startswith("10 rows of the first are cut in the middle") for text in found)
    found = said(spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30), workspace)
    assert any("with rows of 48 tokens in a batch" in text for text in found), "an unread row may be as long as allowed"


def test_memory_goes_by_the_rows_there_are(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    longer = said(spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, data={"max_length": 99}), workspace)
    assert longer[1] == said(spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30), workspace)[1]


def test_memory_that_may_not_fit_can_be_passed(
    pico_folder: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30)
    need = estimate.estimate(spec, workspace, module.Rows(13, 0.5)).bytes
    monkeypatch.setattr(estimate, "memory_total", lambda: need)
    (text,) = said(spec, workspace, "watch")
    assert text.startswith("Memory about ") and "it may not fit" in text
    refuse(spec, workspace)


@pytest.mark.parametrize(("times", "level"), [(2.0, "safe"), (1.1, "watch"), (0.9, "act")])
def test_the_disk_is_green_amber_or_in_the_way(
    times: float, level: str, pico_folder: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30)
    most = estimate.disk(spec, workspace).most
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda _: Usage(0, 0, int(times * most)))
    text = next(finding for finding in audit(spec, workspace) if " disk" in finding.text)
    assert text.level == level and f"{size(int(times * most))} are free" in text.text
    if level == "act":
        with pytest.raises(SpecError, match="Not enough room on the disk") as caught:
            refuse(spec, workspace)
        assert len(caught.value.mistakes) == 1
    else:
        refuse(spec, workspace)


def test_nothing_to_learn_stops_the_start(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    empty = spec_for(pico_folder, tmp_path, [("Why? " * 40, SHORT)] * 3)
    with pytest.raises(SpecError, match="every answer is empty or cut off"):
        refuse(empty, workspace)
    assert not any("learns to stop" in text for text in said(empty, workspace)), "no end is learnt where nothing is"
    one = spec_for(pico_folder, tmp_path, [("Why? " * 40, SHORT)] * 3 + [("Why?", SHORT)])
    assert "The end of the answer is learnt in the row, so the model learns to stop." in said(one, workspace)
    dropped = spec_for(pico_folder, tmp_path, [("Why?", "So.")] * 3, data={"selectors": [{"method": "length", "fewest_answer": 9}]})
    with pytest.raises(SpecError, match="its steps drop every row"):
        refuse(dropped, workspace)


def test_what_methods_cost_extra_is_told_for_each_that_says_so(
    pico_folder: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdamW, "costs", lambda self: "Takes its time.")
    monkeypatch.setattr(LoRA, "costs", lambda self: "Takes its room.")
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, loss={"method": "cross_entropy", "anchor": 0.1}, noises=["neftune"])
    monkeypatch.setattr(type(spec.noises[0]), "costs", lambda self: "Takes a while.")
    costs = said(spec, workspace, "watch")
    assert costs[0] == "LoRA: Takes its room." and costs[2:] == ["AdamW: Takes its time.", f"{spec.noises[0].title()}: Takes a while."]
    assert costs[1].startswith("Cross-entropy: ") and "forward pass" in costs[1]


def test_steps_that_take_long_are_not_counted_behind_a_persons_back(
    pico_folder: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, data={"selectors": ["exact_duplicates"]})
    monkeypatch.setattr(module.steps, "LONG", 0.0)
    assert any("What the data set's steps keep is not known yet" in text for text in said(spec, workspace, "watch"))
    refuse(spec, workspace)
    monkeypatch.setattr(module.steps, "LONG", 99.0)
    assert not any("not known yet" in text for text in said(spec, workspace))


def test_every_set_of_a_mixture_is_looked_at(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    other = tmp_path / "long.jsonl"
    other.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": LONG}) + "\n" for n in range(9)))
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, data={"mix": [{"path": str(other)}]})
    assert any("9 rows are cut in the middle of the answer" in text for text in said(spec, workspace, "watch"))
    assert "rows of 48 tokens in a batch" in said(spec, workspace)[1]


def test_the_same_rows_in_two_sets_take_the_memory_that_they_take_in_one(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    alone = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, batch_size=64)
    shutil.copy(alone.data.path, tmp_path / "again.jsonl")
    data = alone.data.model_dump(mode="json")
    twice = TrainSpec.parse({**alone.model_dump(mode="json"), "data": {**data, "mix": [{"path": str(tmp_path / "again.jsonl")}]}})
    assert said(twice, workspace)[1] == said(alone, workspace)[1]


def test_one_set_of_a_mixture_that_was_not_read_to_the_end_may_hold_the_longest_row(
    pico_folder: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few.jsonl").write_text('{"prompt": "Why?", "completion": "It is."}\n')
    monkeypatch.setattr(recipe, "MEASURED", 10)
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, data={"mix": [{"path": str(tmp_path / "few.jsonl")}]})
    assert "with rows of 48 tokens" in said(spec, workspace)[1]


@pytest.mark.parametrize("knowledge, says", [("nothing", "There is no data set 'nothing'"), ("gone.jsonl", "no file gone.jsonl")])
def test_rows_that_an_adapter_looks_at_and_that_are_not_there_stop_the_start(
    knowledge: str, says: str, pico_folder: Path, tmp_path: Path, workspace: Workspace
) -> None:
    plain = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30).model_dump(mode="json")
    adapter = {"method": "corda", "mode": "knowledge-preserved", "knowledge": knowledge}
    (found,) = said(TrainSpec.parse({**plain, "adapter": adapter}), workspace, "act")
    assert says in found
    with pytest.raises(SpecError):
        refuse(TrainSpec.parse({**plain, "adapter": adapter}), workspace)
    assert not said(TrainSpec.parse({**plain, "adapter": {**adapter, "knowledge": "known"}}), workspace, "act")


@pytest.mark.parametrize(
    "adapter, says", [({"method": "grasp"}, "earlier run"), ({"method": "corda", "mode": "knowledge-preserved"}, "knowledge set")]
)
def test_an_adapter_that_was_not_told_what_it_goes_by_is_a_mistake_of_the_spec(adapter: dict, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        TrainSpec.parse({"adapter": adapter})


@pytest.mark.parametrize(
    "adapter, update, says",
    [
        ("full", {"method": "adamw", "lr": 2e-3}, "0.002 is above what Full tuning usually takes, 1e-06 to 0.001"),
        ("lora", {"method": "adamw", "lr": 2e-6}, "2e-06 is below what LoRA usually takes"),
        ("full", {"method": "adamw", "lr": 1e-3}, ""),
        ("ia3", {"method": "sam", "lr": 2e-4}, "below what (IA)³ usually takes"),
        ("full", {"method": "muon", "lr": 1e-2}, ""),
        ("full", {"method": "mezo", "lr": 1e-9}, ""),
    ],
)
def test_a_learning_rate_that_is_unusual_for_the_adapter_is_told(
    adapter: str, update: dict, says: str, pico_folder: Path, tmp_path: Path, workspace: Workspace
) -> None:
    plain = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30).model_dump(mode="json")
    found = [text for text in said(TrainSpec.parse({**plain, "adapter": adapter, "update": update}), workspace, "watch") if "rate" in text]
    assert len(found) == bool(says) and all(says in text for text in found)


@pytest.mark.parametrize(
    "adapter, stops", [("lift", True), ("full", True), ("hft", True), ("loft", True), ("lora", False), ("prompt_tuning", False)]
)
def test_a_quantised_base_has_no_weights_that_could_move(
    adapter: str, stops: bool, pico_folder: Path, tmp_path: Path, workspace: Workspace
) -> None:
    folder = tmp_path / "quantised"
    shutil.copytree(pico_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}))
    plain = spec_for(folder, tmp_path, [("Why?", SHORT)] * 30).model_dump(mode="json")
    found = said(TrainSpec.parse({**plain, "adapter": adapter}), workspace, "act")
    assert len(found) == stops and all("quantised (gptq)" in text and "such as LoRA" in text for text in found)


def test_a_rank_that_a_matrix_cannot_have_is_told_with_the_matrix(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    plain = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30).model_dump(mode="json")

    def told(rank: int, **knobs: str) -> list[str]:
        spec = TrainSpec.parse({**plain, "adapter": {"method": "lora", "rank": rank, **knobs}})
        return [text for text in said(spec, workspace, "watch") if "rank" in text]

    (found,) = told(17)
    assert "self_attn.k_proj can have, a matrix of 16 × 32" in found and "16 directions" in found
    assert not told(16) and not told(32, targets="mlp") and len(told(33, targets="mlp")) == 1
    shutil.copytree(pico_folder, tmp_path / "narrow")
    make_model(intermediate_size=8).save_pretrained(tmp_path / "narrow")
    plain["model"] = str(tmp_path / "narrow")
    assert "a matrix of 32 × 8:" in told(9, modules="o_proj, down_proj")[0], "the shorter side counts, whichever it is"


def test_an_adapter_on_top_of_an_adapter_is_refused_with_what_to_do_first(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    folder = workspace.run("0001")
    (folder / "spec.yaml").write_text(f"model: {pico_folder}\n")
    (folder / "adapter").mkdir()
    LoRA(rank=2).attach(make_model(), seed=0).save(folder / "adapter")
    plain = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30).model_dump(mode="json")
    (found,) = said(TrainSpec.parse({**plain, "model": "run:0001"}), workspace, "act")
    assert "python -m workbench fold run:0001 --name" in found
    assert not said(TrainSpec.parse({**plain, "model": "run:0001", "adapter": "full"}), workspace, "act")
    with pytest.raises(WorkbenchError, match="Save as a model"):
        drain(prepare(TrainSpec.parse({**plain, "model": "run:0001"}), workspace))


def test_what_stops_or_spoils_a_run_is_told_though_its_rows_are_not_counted(
    pico_folder: Path, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = {"method": "corda", "mode": "knowledge-preserved", "knowledge": "gone.jsonl"}
    more = {"adapter": adapter, "update": {"method": "adamw", "lr": 5.0}}
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, data={"selectors": ["exact_duplicates"]}, **more)
    monkeypatch.setattr(module.steps, "LONG", 0.0)
    assert any("gone.jsonl" in text for text in said(spec, workspace, "act"))
    assert any("The learning rate 5 is above" in text for text in said(spec, workspace, "watch"))
    wide = TrainSpec.parse({**spec.model_dump(mode="json"), "adapter": {"method": "lora", "rank": 17}})
    assert any("A rank of 17 is more than" in text for text in said(wide, workspace, "watch"))
    assert any(text.startswith("On disk ") for text in said(spec, workspace))


def test_all_that_stops_the_start_is_said_at_once(pico_folder: Path, tmp_path: Path, workspace: Workspace) -> None:
    adapter = {"method": "corda", "mode": "knowledge-preserved", "knowledge": "gone.jsonl"}
    with pytest.raises(SpecError) as caught:
        refuse(spec_for(pico_folder, tmp_path, [("Why? " * 40, SHORT)] * 3, adapter=adapter), workspace)
    nothing, gone = caught.value.mistakes
    assert "nothing to learn" in nothing and "gone.jsonl" in gone


def test_a_set_that_nothing_is_drawn_from_is_not_looked_at_and_at_most_so_many_rows_are_told(
    pico_folder: Path, tmp_path: Path, workspace: Workspace
) -> None:
    other = tmp_path / "long.jsonl"
    other.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": LONG}) + "\n" for n in range(9)))
    data = {"mix": [{"path": str(other), "weight": 0}], "most_rows": 7}
    spec = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, data=data)
    assert said(spec, workspace, "watch") == [] and any("At most 7 rows of each set are learnt" in text for text in said(spec, workspace))
    alone = spec_for(pico_folder, tmp_path, [("Why?", SHORT)] * 30, data={"most_rows": 7})
    assert any("At most 7 rows are learnt" in text for text in said(alone, workspace))
