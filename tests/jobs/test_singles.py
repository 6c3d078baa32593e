"""A sparse adapter as a member of a merge: what is read block by block is what peft folds in, and what belongs elsewhere is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merged import refused, run
from peft import PeftModel
from pico import make_model
from safetensors.torch import save_file
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.materials.family import HEAD, Member, open_member
from workbench.materials.models import ModelRef
from workbench.materials.singles import DELTA, Single
from workbench.materials.sparse import save_sparse

UP, NORM, EMBED = "model.layers.0.mlp.up_proj.weight", "model.layers.1.input_layernorm.weight", "model.embed_tokens.weight"
PLACES = {UP: [0, 5, 31, 32, 700], NORM: [0, 3], EMBED: [1, 64, 65]}


def adapter(folder: Path, base: Path, seed: int = 0, **places: list[int]) -> Path:
    """A sparse adapter on the base that changes the numbers in these places."""
    torch.manual_seed(seed)
    deltas = {name: (torch.tensor(where), torch.randn(len(where))) for name, where in (places or PLACES).items()}
    tuned = make_model()
    with torch.no_grad():
        for name, (where, change) in deltas.items():
            tuned.get_parameter(name).view(-1)[where] += change
    folder.mkdir()
    save_sparse(folder, tuned, deltas, str(base))
    return folder


@pytest.fixture
def sparse(tmp_path: Path, lora_base: Path) -> Callable[..., Path]:
    return lambda name="graft-1", seed=0, **places: adapter(tmp_path / name, lora_base, seed, **places)


def opened(folder: Path, base: Path) -> Member:
    return open_member(ModelRef("graft", "graft", str(base), folder))


def folded(folder: Path) -> dict[str, Tensor]:
    return dict(PeftModel.from_pretrained(make_model(), folder).merge_and_unload().state_dict())


def test_it_reads_as_peft_folds_it_in_in_blocks_of_any_size(sparse: Callable[..., Path], lora_base: Path) -> None:
    member, wanted, base = opened(sparse(), lora_base), folded(sparse("again")), make_model()
    for name in member.merged_names():
        rows = member.shape(name)[0]
        for size in (1, 3, rows):
            parts = [member.rows(name, start, min(rows, start + size)) for start in range(0, rows, size)]
            assert torch.equal(torch.cat(parts), wanted[name]), name
        assert torch.equal(member.rows(name, 0, rows), base.state_dict()[name]) is (name not in PLACES)


def test_tied_embeddings_stay_tied_and_a_head_of_its_own_has_the_same_numbers(sparse: Callable[..., Path], lora_base: Path) -> None:
    member = opened(sparse(), lora_base)
    assert member.tied and torch.equal(member.untied().rows(HEAD, 0, 9), member.rows(EMBED, 0, 9))


def test_what_it_adds_to_is_not_written_over() -> None:
    rows = torch.zeros(2, 3)
    single = Single(torch.tensor([1, 4, 100]), torch.tensor([1.0, 2.0, 3.0]))
    assert single.added(0, rows).tolist() == [[0, 1, 0], [0, 2, 0]] and not rows.any()
    assert single.added(1, rows).tolist() == [[0, 2, 0], [0, 0, 0]] and single.added(2, rows) is rows


@pytest.mark.parametrize("method", [{"method": "grafting", "share": 1}, {"method": "linear"}])
def test_a_graft_goes_into_a_merge_as_it_is(method: dict, sparse: Callable[..., Path], lora_base: Path, workspace: Workspace) -> None:
    graft = sparse()
    spec = MergeSpec(base=str(lora_base), models=[{"model": str(graft)}], merge=method)
    merged = run(workspace, spec)
    assert all(torch.equal(tensor, folded(graft)[name]) for name, tensor in merged.items()) and merged


def test_a_smaller_share_takes_the_largest_of_a_graft(sparse: Callable[..., Path], lora_base: Path, workspace: Workspace) -> None:
    graft, base = sparse(), make_model().state_dict()
    share = 4.5 / sum(tensor.numel() for name, tensor in base.items() if name != HEAD)
    spec = MergeSpec(base=str(lora_base), models=[{"model": str(graft)}], merge={"method": "grafting", "share": share})
    merged = run(workspace, spec)
    whole = {name: (tensor - base[name]).abs() for name, tensor in folded(graft).items() if name in merged}
    fourth = torch.cat([size.flatten() for size in whole.values()]).topk(4).values[-1]
    for name, tensor in merged.items():
        assert torch.equal(tensor != base[name], whole[name] >= fourth), name


def test_grafts_that_do_not_overlap_add_up(sparse: Callable[..., Path], lora_base: Path, workspace: Workspace) -> None:
    one, other = sparse("one", **{UP: [1, 2]}), sparse("other", seed=1, **{UP: [3], NORM: [0]})
    models = [{"model": str(graft)} for graft in (one, other)]
    merged = run(workspace, MergeSpec(base=str(lora_base), models=models, merge={"method": "task_arithmetic"}))
    base = make_model().state_dict()
    for name in (UP, NORM):
        wanted = folded(one)[name] + folded(other)[name] - base[name]
        assert torch.allclose(merged[name], wanted, atol=1e-6) and int((merged[name] != base[name]).sum()) == len(
            {UP: "123", NORM: "0"}[name]
        )


def test_layers_can_be_stacked_of_it(sparse: Callable[..., Path], lora_base: Path, workspace: Workspace) -> None:
    graft = sparse()
    spec = MergeSpec(base=str(lora_base), models=[{"model": str(graft)}], stack=[{"layers": [1, 2]}, {"layers": [0, 1]}])
    merged = run(workspace, spec)
    assert torch.equal(merged[UP.replace("layers.0", "layers.1")], folded(graft)[UP])
    assert torch.equal(merged[NORM.replace("layers.1", "layers.0")], folded(graft)[NORM])


def test_it_is_no_low_rank_adapter(sparse: Callable[..., Path], lora_base: Path, workspace: Workspace) -> None:
    spec = MergeSpec(base=str(lora_base), models=[{"model": str(sparse())}], save="adapter", rank=4)
    assert any("single numbers" in mistake and "save to model" in mistake for mistake in refused(workspace, spec))


def test_numbers_of_another_base_and_a_damaged_file_are_refused(sparse: Callable[..., Path], lora_base: Path) -> None:
    for name, places in (("model.layers.9.mlp.up_proj.weight", [0]), (NORM, [32])):
        strange = sparse(f"of-{places[0]}")
        save_file({f"{name}.idx": torch.tensor(places), f"{name}.val": torch.ones(1)}, strange / DELTA)
        with pytest.raises(WorkbenchError, match="belongs to another base"):
            opened(strange, lora_base)
    broken = sparse("broken")
    (broken / DELTA).write_bytes(b"nothing")
    with pytest.raises(WorkbenchError, match="no readable"):
        opened(broken, lora_base)


def test_what_peft_alone_has_written_is_sent_to_be_folded(sparse: Callable[..., Path], lora_base: Path) -> None:
    graft = sparse()
    (graft / DELTA).unlink()
    assert json.loads((graft / "adapter_config.json").read_text())["peft_type"] == "SHIRA"
    with pytest.raises(WorkbenchError, match="Make a model of it first"):
        opened(graft, lora_base)
