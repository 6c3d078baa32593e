"""What makes a run quick is in place, proved before the first step where rows are packed, and told; the work of a step counted by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import make_model

from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured, Progress, Started
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import patching, quickening, varlen
from workbench.jobs.quickening import _products, pace
from workbench.jobs.train import begin, train
from workbench.materials.models import ModelRef, load


def with_(spec: TrainSpec, **more: Any) -> TrainSpec:
    return TrainSpec(**{**spec.model_dump(), "steps": 1, **more})


def test_a_run_tells_what_was_put_in(spec: TrainSpec, workspace: Workspace) -> None:
    started = next(event for event in train(with_(spec, packing=True), workspace.run("0001"), workspace) if isinstance(event, Started))
    assert "lora_linear in 21 Linear" in started.about["ops"]  # seven matrices in three blocks
    assert started.about["packed rows"] == "each by itself" and 0 <= started.about["packed rows differ by"] < 1e-5
    plain = next(event for event in train(spec, workspace.run("0002"), workspace) if isinstance(event, Started))
    assert "packed rows" not in plain.about


def test_kernels_are_compiled_before_a_run_begins_which_is_the_same_run(
    spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: all ops are put in, and who asks is told that there are kernels. What runs there is plain torch; see `rings/patched.py`
    for which kernels these calls launch."""
    monkeypatch.setattr(patching, "FASTER_ON_CPU", ("rms_norm", "swiglu", "qk_rope", "lora_linear"))
    cold = list(train(with_(spec, steps=2), workspace.run("0001"), workspace))
    assert not any(isinstance(event, Progress) and "kernels" in event.what for event in cold)
    monkeypatch.setattr(quickening, "pick", lambda _: "triton")
    events = list(train(with_(spec, steps=2), workspace.run("0002"), workspace))
    compiled = [place for place, event in enumerate(events) if isinstance(event, Progress) and event.what == "compiling kernels"]
    assert [(events[place].done, events[place].total) for place in compiled] == [(done, 5) for done in range(5)]  # three ops, two losses
    assert max(compiled) < min(place for place, event in enumerate(events) if isinstance(event, Started))
    losses = [[event.values["loss"] for event in each if isinstance(event, Measured) and "loss" in event.values] for each in (cold, events)]
    assert losses[0] == losses[1] and len(losses[0]) == 2


def test_a_model_whose_packed_rows_see_one_another_is_refused(
    spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a release of transformers that takes a pack for one long row."""
    monkeypatch.setattr(varlen, "_tell", lambda *_: None)
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda *_, **__: None)
    with pytest.raises(WorkbenchError, match="Switch packing off"):
        list(train(with_(spec, packing=True), workspace.run("0001"), workspace))
    assert len(list(train(spec, workspace.run("0002"), workspace))) > 3


@pytest.mark.parametrize(
    ("more", "blocks", "head"),
    [
        ({"adapter": {"method": "lora", "rank": 4}}, 2, 2),  # forward and to the input; the factors, counted apart, three times
        ({"adapter": "full"}, 3, 3),
        ({"adapter": "full", "update": "mezo"}, 1, 1),
    ],
    ids=str,
)
def test_the_work_of_a_step_counted_by_hand(more: dict[str, Any], blocks: int, head: int, spec: TrainSpec, workspace: Workspace) -> None:
    """Three blocks of width 32: 4 heads and 2 of keys of 8, MLP 64; 400 tokens."""
    run = drain(begin(with_(spec, **more), workspace.run("0001"), workspace))
    lengths = [len(row.ids) for row in run.batches.rows]
    learnt = sum(sum(row.trained[1:]) for row in run.batches.rows) / sum(lengths)
    matrices = 3 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64)
    factors = 3 * 4 * (2 * (32 + 32) + 2 * (16 + 32) + 3 * (32 + 64)) if blocks == 2 else 0
    attention = 2 * 4 * 8 * 3 * sum(length**2 for length in lengths) / sum(lengths) * (3.5 if blocks > 1 else 1)
    expected = 2 * (matrices * blocks + factors * 3 + 400 * 32 * learnt * head) + attention
    found = pace(run.attachment.model, run.spec, run.batches, torch.float32)
    assert found["gflop_per_token"] == pytest.approx(expected / 1e9)
    assert 0 < found["ceiling_tflop_per_s"] < math.inf


def test_matrices_in_four_bits_are_multiplied_by_as_they_are_where_they_are_whole(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path)
    ref = ModelRef(str(tmp_path), "pico", str(tmp_path))
    found = [sum(_products(load(ref, torch.device("cpu"), torch.float32, bits), 2, 0.5)) for bits in (False, True)]
    assert found[0] == found[1] > 0


def test_a_mixture_of_experts_is_not_counted_and_others_tell_it_once(
    spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [event for event in train(spec, workspace.run("0001"), workspace) if isinstance(event, Measured)]
    assert [event.step for event in events if "gflop_per_token" in event.values] == [0]
    run = drain(begin(spec, workspace.run("0002"), workspace))
    run.attachment.model.experts = torch.nn.Parameter(torch.zeros(2, 3, 4))
    assert pace(run.attachment.model, run.spec, run.batches, torch.float32) == {}
