"""A merge on a GPU: when it goes there, that it computes there what it computes here, and what happens when the GPU is full.

Without a GPU its stand-in (`tests/afar.py`) shows that nothing is put together across devices and that every byte is the CPU's; the tests
with the marker `gpu` hold the numbers of a real one.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from afar import AFAR, Afar, in_turns
from merged import read, refused, same, spec_of
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Noted, Started, Table
from workbench.core.method import find, shelf
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs import adapting, layers, roads
from workbench.jobs import merge as merging
from workbench.jobs.merge import merge, preview
from workbench.jobs.roads import CPU, Road, no_room, road_of
from workbench.materials import tensors
from workbench.materials.order import Ranking

ADDING = {"linear", "task_arithmetic", "lines", "wise_ft"}
METHODS: list[dict] = [
    *({"method": name} for name, kind in shelf("merges").items() if not (kind.whole or kind.factored)),
    {"method": "ties", "trim": "model"},
    {"method": "ties", "density": [0.2, 0.8]},
    {"method": "model_stock", "filter_wise": True},
    {"method": "dare", "rescale": "L1"},
    {"method": "dare", "combine": "ties"},
    {"method": "della", "rescale": "L1", "combine": "sum"},
    {"method": "ram", "amplify": True},
    {"method": "sce", "density": 0.5},
    {"method": "nuslerp", "per_row": True, "on_base": True},
    {"method": "linear", "normalise": False},
    {"method": "passthrough", "scale": 0.5},
]
"""Every merge of tensors, and knobs that send other arithmetic to the device."""
FULL: list[dict] = [
    {"method": "linear"},
    {"method": "model_stock"},
    {"method": "ties"},
    {"method": "composable"},
    {"method": "sce", "density": 0.5},
]
"""One merge for each way of knowing something of the whole: nothing, products, order statistics of a tensor, of all, and sums."""


def named(method: dict) -> str:
    return "-".join(map(str, method.values()))


@pytest.fixture
def small(make: Callable) -> Callable[..., str]:
    """A function as `make`, of models of one layer."""
    return partial(make, num_hidden_layers=1, hidden_size=16, intermediate_size=24, vocab_size=90, dtype=torch.bfloat16)


def few(method: dict, *models: str) -> tuple[str, ...]:
    """As many of the models as the method takes."""
    return models[: find("merges", method["method"]).most]


@pytest.fixture
def afar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in is the GPU, and all is done in this thread; tensors come in many blocks."""
    monkeypatch.setattr(roads, "gpu", lambda: AFAR)
    for module in (merging, layers, adapting):
        monkeypatch.setattr(module, "side_by_side", in_turns)
    monkeypatch.setattr(tensors, "BLOCK", 300)
    monkeypatch.setattr(roads, "TIMES", 2)


@pytest.fixture
def larger(afar: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in fewer blocks, for models of more numbers."""
    monkeypatch.setattr(tensors, "BLOCK", 8000)


def told(workspace: Workspace, spec: MergeSpec) -> list[Event]:
    return list(merge(spec, workspace.run("0001"), workspace))


def on_both(
    workspace: Workspace, base: str, models: tuple[str, ...], method: dict, device: Afar | None = None, **more: object
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the CPU makes, and what the device does: the stand-in, if it is given, which then was made use of."""
    told(workspace, spec_of(base, *models, method=method, name="here", device="cpu", **more))
    with device or nullcontext():
        told(workspace, spec_of(base, *models, method=method, name="there", device="cuda", **more))
    assert device is None or device.made
    return read(workspace.model("here")), read(workspace.model("there"))


# When it goes there.


@pytest.mark.parametrize("name", shelf("merges"))
def test_all_but_what_only_adds_up_takes_the_gpu_where_there_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = lambda device: spec_of("base", "a", method=name, device=device)  # noqa: E731
    assert {road_of(spec(device)).device for device in ("auto", "cpu", "cuda")} == {CPU}
    monkeypatch.setattr(roads, "gpu", lambda: AFAR)
    assert road_of(spec("auto")).device == (CPU if name in ADDING else AFAR)
    assert road_of(spec("cpu")).device == CPU and road_of(spec("cuda")).device == AFAR
    assert road_of(spec_of("base", "a", method=name, device="cuda", save="adapter", of="factors")).device == CPU, "factors are small"


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_opened(
    workspace: Workspace, make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(make("base"), make("a", 0.1), method="ties", device="cuda")
    monkeypatch.setattr(roads, "gpu", lambda: None)
    (mistake,) = refused(workspace, spec)
    assert "no GPU" in mistake and "Set device to auto or cpu" in mistake
    with pytest.raises(WorkbenchError, match="no GPU"):
        preview(spec, workspace)


# That it computes there what it computes here.


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_on_the_device_every_byte_is_the_same(method: dict, afar: None, small: Callable, workspace: Workspace) -> None:
    base = small("base")
    models = few(method, small("a", 0.1, 1), small("b", 0.1, 2, dtype=torch.float32))
    here, there = on_both(workspace, base, models, method, Afar())
    assert same(here, there) and not same(here, read(base))


@pytest.mark.parametrize("method", [{"method": "linear"}, {"method": "dare"}], ids=named)
def test_adapters_are_put_on_their_base_there(
    method: dict, larger: None, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    models = lora_run(1), lora_run(2, r=2)
    assert same(*on_both(workspace, str(lora_base), models, method, Afar()))


@pytest.mark.parametrize("method", [{"method": "linear"}, {"method": "ties", "density": 0.5}], ids=named)
def test_one_adapter_is_made_of_several_there(
    method: dict, larger: None, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    models = lora_run(1), lora_run(2, r=2)
    here, there = on_both(workspace, str(lora_base), models, method, Afar(), save="adapter", rank=3)
    assert here.keys() == there.keys()
    for a in (name for name in here if "lora_A" in name):
        b = a.replace("lora_A", "lora_B")
        assert torch.allclose(here[b] @ here[a], there[b] @ there[a], atol=1e-6), "the change; blocks of another size turn its factors"


def test_what_is_asked_with_factors_puts_its_change_on_the_base_there(
    larger: None, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    models = lora_run(1), lora_run(2), lora_run(3)
    assert same(*on_both(workspace, str(lora_base), models, {"method": "clair"}, Afar()))


@pytest.mark.parametrize("method", [{"method": "partial_fusion", "match": "weights"}, {"method": "pruning", "keep": 0.5}], ids=named)
def test_whole_models_have_their_products_there(
    method: dict, afar: None, make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roads, "PRODUCT", 1000)
    base, models = make("base"), few(method, make("a", 0.1), make("b", 0.1, 2))
    here, there = on_both(workspace, base, models, method, Afar())
    assert here.keys() == there.keys() and all(torch.allclose(here[name], there[name], atol=1e-6) for name in here)


def test_a_preview_says_the_same_and_the_run_says_where(afar: None, small: Callable, workspace: Workspace) -> None:
    spec = spec_of(small("base"), small("a", 0.1), small("b", 0.1, 2), method="ties")
    with Afar():
        seen, events = preview(spec, workspace), told(workspace, spec)
    assert seen == next(event for event in events if isinstance(event, Table))
    assert isinstance(events[0], Started) and events[0].about["device"] == str(AFAR)
    assert [event for event in events if isinstance(event, Noted)] == []


def test_draws_are_the_cpus(afar: None, small: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method's own words for it: `uniform` is never asked to make anything on the device."""
    from workbench.methods.merges import dare, della

    for module in (dare, della):
        drawn = list[torch.device]()
        monkeypatch.setattr(
            module, "uniform", lambda *given, of=module.uniform, seen=drawn: (seen.append((found := of(*given)).device), found)[1]
        )
        spec = spec_of(small("base"), small("a", 0.1), method=module.__name__.rpartition(".")[2], name=module.__name__)
        with Afar():
            told(workspace, spec)
        assert drawn and set(drawn) == {CPU}


# When the GPU is full.


@pytest.mark.parametrize("once", [False, True], ids=["from-then-on", "once"])
@pytest.mark.parametrize("number", [1, 9, 40, 250])
@pytest.mark.parametrize("method", FULL, ids=named)
def test_what_finds_no_room_is_merged_on_the_cpu_and_told(
    method: dict, number: int, once: bool, afar: None, small: Callable, workspace: Workspace
) -> None:
    base, models = small("base"), (small("a", 0.1), small("b", 0.1, 2))
    told(workspace, spec_of(base, *models, method=method, name="here", device="cpu"))
    with Afar(lambda made: made == number if once else made >= number):
        events = told(workspace, spec_of(base, *models, method=method, device="cuda"))
    assert same(read(workspace.model("here")), read(workspace.model("out")))
    (note,) = [event for event in events if isinstance(event, Noted)]
    assert "The GPU had no room for " in note.text and "on the CPU" in note.text and note.level == "watch"
    assert ("more" not in note.text) or not once or method["method"] == "composable"


@pytest.mark.parametrize("method", [{"method": "ties"}, {"method": "composable"}], ids=named)
def test_order_statistics_are_counted_anew_where_counting_finds_no_room(
    method: dict, afar: None, small: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = Ranking.look

    def full(self: Ranking, numbers: Tensor) -> None:
        if numbers.device == AFAR:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        looked(self, numbers)

    monkeypatch.setattr(Ranking, "look", full)
    assert same(*on_both(workspace, small("base"), (small("a", 0.1), small("b", 0.1, 2)), method, Afar()))


@pytest.mark.parametrize("number", [1, 40])
@pytest.mark.parametrize("method", [{"method": "slerp"}, {"method": "ties", "trim": "model"}], ids=named)
@pytest.mark.parametrize("save", ["model", "adapter"])
def test_adapters_too(
    save: str, method: dict, number: int, larger: None, lora_run: Callable, lora_base: Path, workspace: Workspace
) -> None:
    models = lora_run(1), lora_run(2, r=2)
    rank = {"save": save, "rank": 3} if save == "adapter" else {}
    here, there = on_both(workspace, str(lora_base), models, method, Afar(lambda made: made == number), **rank)
    for name in here:
        if "lora_A" in name:
            b = name.replace("lora_A", "lora_B")
            assert torch.allclose(here[b] @ here[name], there[b] @ there[name], atol=1e-6)
        elif "lora_B" not in name:
            assert torch.equal(here[name], there[name])


def test_a_fusion_goes_on_here(afar: None, make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roads, "PRODUCT", 1000)
    method, base, models = {"method": "partial_fusion", "match": "weights"}, make("base"), (make("a", 0.1), make("b", 0.1, 2))
    told(workspace, spec_of(base, *models, method=method, name="here", device="cpu"))
    with Afar(lambda made: made == 10):
        events = told(workspace, spec_of(base, *models, method=method, device="cuda"))
    here, there = read(workspace.model("here")), read(workspace.model("out"))
    assert all(torch.allclose(here[name], there[name], atol=1e-6) for name in here)
    assert any("no room for model.layers.0:" in event.text for event in events if isinstance(event, Noted))


def test_other_errors_are_no_lack_of_room() -> None:
    def broken(device: torch.device) -> None:
        raise RuntimeError("Expected all tensors to be on the same device")

    road = Road(AFAR)
    with pytest.raises(RuntimeError, match="same device"):
        road.do("a", broken)
    assert not road.turned_away
    assert no_room(torch.OutOfMemoryError("…")) and no_room(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling …"))


def test_a_lack_of_room_on_the_cpu_is_not_tried_again() -> None:
    tried = list[torch.device]()

    def full(device: torch.device) -> None:
        tried.append(device)
        raise torch.OutOfMemoryError("…")

    with pytest.raises(torch.OutOfMemoryError):
        Road().do("a", full)
    assert tried == [CPU]


# On a GPU.

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def near(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same to the rounding of float32; sums may be taken in another order."""
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], rtol=2**-21, atol=1e-7) for name in one)


@pytest.mark.gpu
@ON_GPU
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_a_gpu_gives_the_cpus_numbers(method: dict, make: Callable, workspace: Workspace) -> None:
    models = few(method, make("a", 0.1, 1), make("b", 0.1, 2))
    assert near(*on_both(workspace, make("base"), models, method))


@pytest.mark.gpu
@ON_GPU
@pytest.mark.parametrize("method", [*METHODS, {"method": "clair"}], ids=named)
def test_a_gpu_gives_the_cpus_numbers_for_adapters(method: dict, lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    models = few(method, lora_run(1), lora_run(2, r=2), lora_run(3))
    assert near(*on_both(workspace, str(lora_base), models, method))


@pytest.mark.gpu
@ON_GPU
@pytest.mark.parametrize("method", [{"method": "linear"}, {"method": "ties"}, {"method": "dare"}], ids=named)
def test_a_gpu_cuts_to_the_cpus_adapter(method: dict, lora_run: Callable, lora_base: Path, workspace: Workspace) -> None:
    here, there = on_both(workspace, str(lora_base), (lora_run(1), lora_run(2, r=2)), method, save="adapter", rank=3)
    for a in (name for name in here if "lora_A" in name):
        b = a.replace("lora_A", "lora_B")
        assert torch.allclose(here[b] @ here[a], there[b] @ there[a], atol=1e-5)


@pytest.mark.gpu
@ON_GPU
@pytest.mark.parametrize("method", [{"method": "partial_fusion", "match": "weights"}, {"method": "pruning", "keep": 0.5}], ids=named)
def test_a_gpu_pairs_as_the_cpu_does(method: dict, make: Callable, workspace: Workspace) -> None:
    models = few(method, make("a", 0.1), make("b", 0.1, 2))
    assert near(*on_both(workspace, make("base"), models, method))
