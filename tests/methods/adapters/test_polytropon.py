"""Polytropon (arXiv:2202.13914) and MHR: skills that tasks mix, each row by its own task, and what is saved of each task."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from safetensors.torch import load_file
from test_every_adapter import gradients
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.schedule import paced
from workbench.jobs.train import Run, begin
from workbench.materials.lora import Lora, read_lora
from workbench.materials.models import ModelRef, load, resolve
from workbench.materials.skills import SkillsAttachment, even, mixed, skilled
from workbench.methods.adapters.polytropon import Polytropon
from workbench.methods.updates.adamw import AdamW

IDS = torch.arange(5, 35).reshape(3, 10)
FEW = {"skills": 3, "tasks": 4, "rank": 2}


@torch.no_grad()
def said(model: nn.Module, rows: Tensor = IDS) -> Tensor:
    return model.eval()(rows).logits


def attached(model: PreTrainedModel | None = None, **knobs: object) -> SkillsAttachment:
    return Polytropon(**{**FEW, **knobs}).attach(model or make_model(), seed=0)


def moved(**knobs: object) -> SkillsAttachment:
    """Every number of it is random."""
    attachment, generator = attached(**knobs), torch.Generator().manual_seed(1)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, std=0.7, generator=generator)
    return attachment


def tasks(*own: int) -> Tensor:
    return torch.tensor(own)[:, None].expand(-1, 10)


def by_the_formula(attachment: SkillsAttachment, name: str, task: int, x: Tensor) -> Tensor:
    """One matrix, split by split and skill by skill."""
    layer = dict(skilled(attachment.model))[name]
    a, b = layer.poly_lora_A["default"], layer.poly_lora_B["default"]
    splits, skills, part, rank = a.shape
    weights = layer.poly_router["default"].module_logits[task].sigmoid().view(splits, skills)
    weights = weights / weights.sum(1, keepdim=True)
    inner = sum(weights[q, k] * x[..., q * part : (q + 1) * part] @ a[q, k] for q in range(splits) for k in range(skills))
    outer = [sum(weights[q, k] * inner @ b[q, k] for k in range(skills)) for q in range(splits)]
    return layer.base_layer(x) + torch.cat(outer, -1) / rank


@pytest.mark.parametrize("splits", [1, 4])
def test_what_a_matrix_says_is_the_formula_of_the_task(splits: int) -> None:
    attachment, name = moved(splits=splits), "model.layers.1.mlp.up_proj"
    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(3))
    attachment.model.eval()
    attachment.hear(torch.tensor([[2, 2], [-1, 0], [3, -1]]))
    with torch.no_grad():
        own = attachment.model.get_submodule(name)(x)
        for row, task in enumerate((2, 0, 3)):
            assert torch.allclose(own[row], by_the_formula(attachment, name, task, x[row]), atol=1e-5)


@pytest.mark.parametrize("splits", [1, 2])
def test_with_routing_that_is_even_a_task_says_what_the_mean_of_the_skills_says(splits: int) -> None:
    attachment = moved(splits=splits)
    unknown = said(attachment.model)
    attachment.hear(tasks(0, 1, 3))
    assert not torch.allclose(said(attachment.model), unknown, atol=1e-2)
    attachment.hear(tasks(-1, -1, -1))
    assert torch.equal(said(attachment.model), unknown)
    for _, layer in skilled(attachment.model):
        nn.init.constant_(layer.poly_router["default"].module_logits, 0.4)
    attachment.hear(tasks(0, 1, 3))
    assert torch.allclose(said(attachment.model), unknown, atol=1e-5)


def test_a_task_learns_its_own_routing_and_a_row_of_none_learns_the_skills_alone() -> None:
    attachment = moved()
    batch = {"input_ids": IDS, "labels": IDS}
    attachment.model.train()
    attachment.hear(tasks(2, 2, 0))
    found = {name: gradient for name, gradient in gradients(attachment, batch).items() if name.endswith("module_logits")}
    assert found and all(gradient[[0, 2]].any() and not gradient[[1, 3]].any() for gradient in found.values())
    attachment.hear(None)
    found = gradients(attachment, batch)
    assert all(gradient.any() != name.endswith("module_logits") for name, gradient in found.items())


def test_the_mean_of_skills_is_the_mean_of_what_they_say_only_where_they_share_one_side() -> None:
    """MHR-μ: its caveat, and where it has none."""
    attachment = moved()
    layer = next(layer for _, layer in skilled(attachment.model))
    a, b = layer.poly_lora_A["default"].detach()[0], layer.poly_lora_B["default"].detach()[0]

    def apart() -> Tensor:
        return torch.stack([(one @ other).T for one, other in zip(a, b, strict=True)]).mean(0)

    def together() -> Tensor:
        reading, writing = mixed(layer, even(layer))
        return (writing @ reading).detach()

    assert not torch.allclose(together(), apart(), atol=1e-2)
    a.copy_(a[0].clone().expand_as(a))
    assert torch.allclose(together(), apart(), atol=1e-5)


@pytest.mark.parametrize("splits", [1, 4])
def test_what_is_saved_is_a_lora_of_the_mean_a_lora_of_each_task_and_all_skills_as_peft_opens_them(splits: int, tmp_path: Path) -> None:
    attachment = moved(splits=splits)
    attachment.meet(["facts", "a/b: ü", "tales"])
    attachment.save(tmp_path)
    assert sorted(folder.name for folder in (tmp_path / "tasks").iterdir()) == ["0-facts", "1-a-b-", "2-tales"]
    assert read_lora(tmp_path, "it").folder == tmp_path
    mean = PeftModel.from_pretrained(make_model(), tmp_path)
    assert torch.allclose(said(mean), said(attachment.model), atol=1e-4)
    skills = PeftModel.from_pretrained(make_model(), tmp_path / "skills").eval()
    for task, folder in enumerate(("0-facts", "1-a-b-", "2-tales")):
        own = PeftModel.from_pretrained(make_model(), tmp_path / "tasks" / folder).merge_and_unload()
        attachment.hear(tasks(task, task, task))
        with torch.no_grad():
            served = skills(IDS, task_ids=torch.tensor([task] * 3)).logits
        assert torch.allclose(said(own), said(attachment.model), atol=1e-4) and torch.allclose(served, said(attachment.model), atol=1e-5)
        assert not torch.allclose(said(own), said(mean), atol=1e-2)


def test_on_the_disk_are_as_many_numbers_as_it_says_where_all_its_room_is_used(tmp_path: Path) -> None:
    attachment, cost = attached(splits=2), Polytropon(**FEW, splits=2).cost(make_model())
    attachment.meet(list("abcd"))
    attachment.save(tmp_path)
    written = [tensor.numel() for file in tmp_path.rglob("*.safetensors") for tensor in load_file(file).values()]
    assert sum(written) == cost.saved
    assert cost.trained == 3 * (3 * 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64)) + 7 * 4 * 2 * 3)


def test_with_the_skills_of_an_earlier_run_only_the_routing_moves_from_their_mean(tmp_path: Path) -> None:
    earlier = moved()
    earlier.save(tmp_path)
    adapter = Polytropon(**FEW, skills_of="run:0001")
    attachment = adapter.attach(make_model(), seed=5)
    attachment.heed(read_lora(tmp_path, "it"))
    earlier.hear(None)
    assert adapter.earlier() == "run:0001" and "run:0001" in adapter.costs()
    assert torch.allclose(said(attachment.model), said(earlier.model), atol=1e-6)
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make_model()))
    assert {name.rpartition(".")[2] for name, _ in attachment.trained()} == {"module_logits"}, "also after the base had its turn"
    cost = adapter.cost(make_model())
    assert cost.trained == sum(own.numel() for _, own in attachment.trained()) == 3 * 7 * 4 * 3
    before = {name: tensor.clone() for name, tensor in attachment.state().items()}
    stepper = AdamW(lr=1e-3).begin(attachment.groups())
    attachment.hear(tasks(0, 1, 1))
    attachment.model(input_ids=IDS, labels=IDS).loss.backward()
    stepper.step(1.0, lambda: 0.0)
    assert all(torch.equal(own, before[name]) != name.endswith("module_logits") for name, own in attachment.state().items())
    for knobs in ({"rank": 3}, {"targets": "attention", "skills": 2}):
        with pytest.raises(WorkbenchError, match="the same skills, splits, rank"):
            Polytropon(**{**FEW, **knobs}, skills_of="run:0001").attach(make_model(), 0).heed(read_lora(tmp_path, "it"))
    with pytest.raises(WorkbenchError, match="Name a finished run of this method"):
        adapter.attach(make_model(), 0).heed(Lora({}, {}))


def test_the_routing_moves_as_much_faster_as_it_says() -> None:
    attachment = attached(pace=30.0)
    skills, routing = attachment.groups()
    assert routing["pace"] == 30 and all(own.shape == (4, 3) for own in routing["params"])
    assert [group["pace"] for group in paced(attachment, AdamW())] == [1, 30], "beside what the update says of each"
    assert len(skills["params"]) == 2 * len(routing["params"]) == 2 * 3 * 7


def test_a_table_that_is_too_small_one_task_alone_and_matrices_it_cannot_cut_are_told_what_to_do() -> None:
    with pytest.raises(WorkbenchError, match="Set tasks to 5"):
        attached().meet(list("abcde"))
    with pytest.raises(WorkbenchError, match=r"data\.task"):
        attached().meet([""])
    with pytest.raises(WorkbenchError, match="Set splits to"):
        Polytropon(splits=3).cost(make_model())
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16))
    with pytest.raises(WorkbenchError, match="another adapter"):
        Polytropon().cost(gpt2)
    with pytest.raises(ValueError, match=r"data\.task"):
        TrainSpec(adapter="polytropon")
    with pytest.raises(ValueError, match="leave packing off"):
        TrainSpec(data={"task": "kind"}, adapter="polytropon", packing=True)


# In a run.


@pytest.fixture
def run(pico_folder: Path, workspace: Workspace, tmp_path: Path) -> Run:
    """Rows of two tasks that want opposite things of the same words."""
    lines = []
    for place in range(24):
        kind, word = ("up", "down")[place % 2], ("sun", "moon", "star", "sea")[place // 2 % 4]
        turns = [{"role": "user", "content": word}, {"role": "assistant", "content": f"{kind} {kind} {kind}"}]
        lines.append(json.dumps({"messages": turns, "kind": kind}))
    (tmp_path / "two.jsonl").write_text("\n".join(lines) + "\n")
    spec = TrainSpec(
        model=str(pico_folder), data={"path": str(tmp_path / "two.jsonl"), "task": "kind", "validation_share": 0.25},
        adapter={"method": "polytropon", "skills": 2, "tasks": 2, "rank": 4}, update={"method": "adamw", "lr": 5e-3},
        steps=25, batch_size=6, evaluate_every=25, sample_every=25, prompts=["sun"], recompute=True,
    )  # fmt: skip
    return drain(begin(spec, workspace.run("0001"), workspace))


def test_a_run_reads_each_row_by_its_task_and_tells_the_loss_of_each(run: Run, workspace: Workspace) -> None:
    heard = list[Tensor | None]()
    hear = run.attachment.hear
    run.attachment.hear = lambda tasks: heard.append(tasks) or hear(tasks)
    list(run.steps())
    kinds = {place: run.prepared.tokenizer.decode(row.ids) for place, row in enumerate(run.prepared.train)}
    window = run.batches.window(1)
    first = next(own for own in heard if own is not None and own.shape == window[0]["rows"].shape)
    assert run.prepared.about.names == ["down", "up"] and heard[-1] is None
    for row, own in zip(window[0]["rows"], first, strict=True):
        assert [
            (f"{('down', 'up')[task]} " in kinds[place]) if place >= 0 else task == -1
            for place, task in zip(row.tolist(), own.tolist(), strict=True)
        ]
    for batch in run.prepared.validation:
        texts = [run.prepared.tokenizer.decode(ids) for ids in batch["input_ids"]]
        assert all(f"{('down', 'up')[task]} " in text for text, task in zip(texts, batch["tasks"].flatten().tolist(), strict=True))
    values = run.evaluate()
    objective, mixed_up = run.objective, {"up": "down", "down": "up"}
    for task, batches in run.prepared.by_task.items():
        assert objective.mean_loss(batches) == pytest.approx(values[f"validation_loss/{task}"])
        wrong = [{**batch, "tasks": 1 - batch["tasks"]} for batch in batches]
        unknown = [{name: tensor for name, tensor in batch.items() if name != "tasks"} for batch in batches]
        right, other, none = (objective.mean_loss(own) for own in (batches, wrong, unknown))
        assert right < none < other, f"the routing of {task} is its own, and not that of {mixed_up[task]}"
    run.keep()
    tuned = load(ModelRef("it", "it", run.spec.model, run.folder / "adapter"), torch.device("cpu"), torch.float32)
    ids = torch.arange(5, 25).reshape(2, 10)
    assert torch.allclose(said(tuned, ids), said(run.attachment.model, ids), atol=1e-4), "a prompt has no task"
    own = load(resolve(str(run.folder / "adapter" / "tasks" / "1-up"), workspace), torch.device("cpu"), torch.float32)
    run.attachment.hear(torch.tensor([[1], [1]]))
    assert torch.allclose(said(own, ids), said(run.attachment.model, ids), atol=1e-4)
