"""Training beside a base in 4 bits: what is said before the start, that it goes on exactly, and that its adapter opens anywhere."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from transformers import AutoModelForCausalLM
from workbench_kernels import linear_cross_entropy

from tests.jobs.story import run, series
from tests.jobs.test_estimate import LONGEST, LORA, Counted, long_rows_in
from workbench.core.events import Measured
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.audit import audit
from workbench.jobs.estimate import estimate
from workbench.jobs.prepare import prepare
from workbench.jobs.train import begin, train
from workbench.materials import rounded
from workbench.materials.models import load, resolve

HELD = pytest.mark.skipif(rounded.uninstalled() != "", reason="bitsandbytes is not installed")


@pytest.fixture
def wide(spec: TrainSpec, pico_folder: Path, tmp_path: Path) -> TrainSpec:
    """The same run from a model whose rows are whole blocks, in 4 bits."""
    folder = tmp_path / "wide"
    shutil.copytree(pico_folder, folder)
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(folder)
    adapter = {"method": "lora", "rank": 4, "dropout": 0.1}
    return TrainSpec.parse({**spec.model_dump(mode="json"), "model": str(folder), "adapter": adapter, "quantization": "nf4"})


@HELD
def test_it_learns_goes_on_as_if_nothing_had_happened_and_plain_peft_opens_it(wide: TrainSpec, workspace: Workspace) -> None:
    spec = TrainSpec.parse({**wide.model_dump(mode="json"), "update": {"method": "adamw", "lr": 5e-3}})
    whole = run(spec, workspace.run("0001"), workspace)
    loss, ratios = series(whole, "loss"), series(whole, "step_ratio")
    assert loss[6] < loss[1] and ratios and "secant_share" not in {name for e in whole if isinstance(e, Measured) for name in e.values}
    folder, first = workspace.run("0002"), []
    job = train(spec, folder, workspace)
    for event in job:
        first.append(event)
        if isinstance(event, Measured) and event.step == 3 and "loss" in event.values:
            job.close()
            break
    second = run(spec, folder, workspace)
    assert {**series(first, "loss"), **series(second, "loss")} == loss
    base = AutoModelForCausalLM.from_pretrained(spec.model)
    opened = PeftModel.from_pretrained(base, workspace.run("0001") / "adapter").eval()
    (workspace.run("0001") / "spec.yaml").write_text(json.dumps(spec.model_dump(mode="json")))  # as the runner does
    ours, tokens = load(resolve("run:0001", workspace), torch.device("cpu"), torch.float32), torch.arange(5, 25)[None]
    assert torch.allclose(opened(tokens).logits, ours(tokens).logits, atol=1e-5), "on the base as it was"


@HELD
def test_every_process_of_a_run_holds_it_in_four_bits(wide: TrainSpec, workspace: Workspace) -> None:
    assert len(dict(rounded.matrices(drain(prepare(wide, workspace)).model))) == 3 * 7
    shared = {**wide.model_dump(mode="json"), "adapter": {"method": "lora", "dropout": 0.0}, "accumulate": 2, "steps": 3}
    one, two, plain = (
        series(run(TrainSpec.parse({**shared, **more}), workspace.run(f"000{number}"), workspace), "loss")
        for number, more in enumerate(({}, {"processes": 2}, {"quantization": "none"}), 1)
    )
    assert two == pytest.approx(one, rel=1e-6) != pytest.approx(plain, rel=1e-6)


def test_the_matrices_of_the_demo_model_counted_by_hand(workspace: Workspace) -> None:
    plain, four = (dict(estimate(TrainSpec(quantization=how), workspace).memory) for how in ("none", "nf4"))
    attention, mlp, blocks = 2 * 192 * 192 + 2 * 192 * 96, 3 * 192 * 512, 6
    inside = blocks * (attention + mlp)
    saved = 4 * inside - (inside // 2 + inside // 64 + 4 * inside // (64 * 256))
    assert plain["weights"] - four["weights"] == pytest.approx(saved - 4 * 192 * 512, abs=1), "and the largest of them unpacked"


@HELD
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_with_activations_computed_anew_it_learns_the_same(wide: TrainSpec, workspace: Workspace, precision: str) -> None:
    """To the bit, in both number formats: what is computed anew is what was there."""
    told = wide.model_dump(mode="json") | {"precision": precision}
    found = [
        series(run(TrainSpec.parse({**told, **more}), workspace.run(f"000{number}"), workspace), "loss")
        for number, more in enumerate(({}, {"recompute": True}), 1)
    ]
    assert found[0] == found[1] and found[1][6] < found[1][1]


@HELD
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("more", [{}, {"adapter": {**LORA, "dropout": 0.0}}, {"recompute": True}], ids=str)
def test_the_estimate_is_what_the_tensors_of_a_step_take(
    wide: TrainSpec, tmp_path: Path, workspace: Workspace, more: dict, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is beside the numbers themselves (`test_estimate.py`), with what the 4 bits and their scales take."""
    for op in ("_forward", "_backward"):
        monkeypatch.setattr(linear_cross_entropy, op, vars(linear_cross_entropy)[op]._init_fn)
    data = {"path": str(long_rows_in(tmp_path)), "max_length": LONGEST, "validation_share": 0.0, "train_on": "everything"}
    setting = {"model": wide.model, "quantization": "nf4", "adapter": LORA, "precision": precision, "batch_size": 8, "steps": 9, **more}
    spec = TrainSpec.parse({"data": data, **setting})
    taken = drain(begin(spec, workspace.home, workspace))
    taken.advance()
    scales = [module.weight.quant_state for _, module in rounded.matrices(taken.prepared.model)]
    held = [*taken.attachment.model.parameters(), *taken.attachment.model.buffers(), *taken.stepper.state().values()]
    held += [tensor for each in scales for tensor in (each.absmax, each.state2.absmax)]
    counted = Counted([tensor.detach() for tensor in held])
    with counted:
        taken.advance()
    assert estimate(spec, workspace).bytes == pytest.approx(counted.most, rel=0.12)


@HELD
def test_before_the_start_it_says_which_rows_are_no_whole_blocks(spec: TrainSpec, workspace: Workspace) -> None:
    told = audit(TrainSpec.parse({**spec.model_dump(mode="json"), "quantization": "nf4"}), workspace)
    assert any(
        finding.level == "act" and "rows of 32 numbers" in finding.text and "quantization to none" in finding.text for finding in told
    )


def test_before_the_start_it_says_what_to_install(wide: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded.importlib.util, "find_spec", lambda name: None)
    assert any(finding.level == "act" and "pip install" in finding.text for finding in audit(wide, workspace))
