"""Files opened in half precision: what transformers' own way makes of them, to the bit, and no other thread notices."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from pico import make_model
from transformers import AutoModelForCausalLM, PreTrainedModel, initialization
from transformers.utils import hub

from tests.jobs.test_patching import FAMILIES, tiny
from workbench.materials import rounded
from workbench.materials.models import ModelRef, load, skeleton
from workbench.materials.opening import ALONE, Making, from_files

CPU, BF16 = torch.device("cpu"), torch.bfloat16


def numbers(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


@pytest.mark.parametrize("saved", [torch.float32, BF16], ids=str)
@pytest.mark.parametrize("family", [*FAMILIES, "Mixtral"])
def test_it_is_what_transformers_makes_to_the_bit(family: str, saved: torch.dtype, tmp_path: Path) -> None:
    tiny(family).to(saved).save_pretrained(tmp_path)
    usual, found = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=BF16), from_files(str(tmp_path), BF16)
    assert type(found) is type(usual) and found.config.to_dict() == usual.config.to_dict() and found.dtype == BF16
    there, here = numbers(usual), numbers(found)
    assert here.keys() == there.keys() and all(
        here[name].dtype == own.dtype and torch.equal(here[name], own) for name, own in there.items()
    )
    assert found.generation_config.to_dict() == usual.generation_config.to_dict()


@pytest.mark.parametrize(
    "four_bits", [False, pytest.param(True, marks=pytest.mark.skipif(rounded.uninstalled() != "", reason="no package"))]
)
def test_opening_a_model_changes_no_other_threads_numbers(four_bits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a moment: whoever sets the default of all threads is seen."""
    make_model(hidden_size=64, intermediate_size=128).to(BF16).save_pretrained(tmp_path)
    seen, begin = set(), torch.set_default_dtype
    monkeypatch.setattr(torch, "set_default_dtype", lambda dtype: seen.add(dtype) or begin(dtype))
    model = load(ModelRef(str(tmp_path), "pico", str(tmp_path)), CPU, BF16, four_bits=four_bits)
    assert seen <= {torch.float32} and model.get_input_embeddings().weight.dtype == BF16


def test_making_is_this_threads_and_leaves_alone_what_has_a_format() -> None:
    other = list[torch.dtype]()
    with Making(BF16):
        thread = threading.Thread(target=lambda: other.append(torch.ones(2).dtype))
        thread.start()
        thread.join()
        made = [torch.empty(2), torch.zeros(2), torch.tensor(0.5), torch.arange(2.0), torch.nn.Linear(2, 2).weight]
        kept = [torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float32), torch.ones(2, dtype=torch.float32) * 2]
        whole = [torch.arange(3), torch.tensor([1]), torch.full((2,), True)]
    assert other == [torch.float32] and {one.dtype for one in made} == {BF16}
    assert [one.dtype for one in kept] == [torch.float64, torch.float32, torch.float32]
    assert [one.dtype for one in whole] == [torch.int64, torch.int64, torch.bool] and torch.ones(1).dtype == torch.float32


def test_models_are_made_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers takes the tying away from the class of all models meanwhile: a second thread would find it gone, and leave it so."""
    make_model().save_pretrained(tmp_path)
    ties, inside, most = PreTrainedModel.tie_weights, [], [0]
    started, original = threading.Barrier(3), initialization.no_tie_weights

    @contextmanager
    def seen() -> Iterator[None]:
        inside.append(None)
        most[0] = max(most[0], len(inside))
        time.sleep(0.05)
        with original():
            yield
        inside.pop()

    monkeypatch.setattr(initialization, "no_tie_weights", seen)
    found: list[PreTrainedModel] = []

    def open_it(dtype: torch.dtype) -> None:
        started.wait()
        found.append(from_files(str(tmp_path), dtype))

    threads = [threading.Thread(target=open_it, args=(dtype,)) for dtype in (torch.float32, torch.float32, BF16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and PreTrainedModel.tie_weights is ties
    assert all(model.get_output_embeddings().weight is model.get_input_embeddings().weight for model in found) and len(found) == 3


def test_a_shape_is_not_looked_at_while_a_model_is_opened(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    looked = threading.Thread(target=skeleton, args=(str(tmp_path),))
    with ALONE:
        looked.start()
        looked.join(0.3)
        assert looked.is_alive()
    looked.join()


@pytest.mark.parametrize("shards", [1, 2])
def test_what_the_hub_sends_comes_before_the_lock(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download takes minutes: other models are made meanwhile."""
    asked, held = list[str](), list[bool]()

    def noted(_: str, name: str, **__: object) -> str | None:
        asked.append(name)
        other = threading.Thread(target=lambda: held.append(not ALONE.acquire(blocking=False) or bool(ALONE.release())))
        other.start()
        other.join()
        return None if shards > 1 and name == "model.safetensors" else name

    def last(path: str, name: str, **told: object) -> None:
        noted(path, name, **told)
        raise OSError("the line is cut")

    monkeypatch.setattr(hub, "cached_file", noted if shards > 1 else last)
    monkeypatch.setattr(hub, "get_checkpoint_shard_files", last)
    with pytest.raises(OSError, match="the line is cut"):
        from_files("somebody/model", torch.float32)
    index = "model.safetensors.index.json"
    assert asked == (["model.safetensors"] if shards == 1 else ["model.safetensors", index, index]) and not any(held)
