"""The estimate: counts are exact, memory and disk are those of a real step and a real run, and nothing is loaded."""

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import make_model
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.pytorch_utils import Conv1D
from workbench_kernels import linear_cross_entropy

from workbench.core.job import drain
from workbench.core.method import shelf
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import estimate as module
from workbench.jobs.estimate import Disk, Rows, choices, disk, estimate
from workbench.jobs.train import begin, train
from workbench.materials.evidence import Evidence
from workbench.materials.templates import Encoded
from workbench.methods.contracts import Informed

LORA = {"method": "lora", "rank": 4, "dropout": 0.1}
LONGEST = 40


def test_counts_are_those_of_the_model(pico_folder: Path, workspace: Workspace) -> None:
    parameters = sum(parameter.numel() for parameter in make_model().parameters())
    full = estimate(TrainSpec(model=str(pico_folder), adapter="full", accumulate=2), workspace)
    assert (full.trained, full.total) == (parameters, parameters)
    memory = dict(full.memory)
    assert memory["weights"] == memory["gradients"] == memory["copy of the start"] == 4 * parameters
    assert memory["optimizer"] == 8 * parameters and full.machine_bytes > 1e9


@pytest.mark.parametrize(
    "more",
    [
        {"batch_size": 64}, {"data": {"max_length": 4096}}, {"adapter": {"method": "lora", "rank": 128}}, {"adapter": "full"},
        {"adapter": {"method": "lora", "rank": 2, "dropout": 0.0}}, {"loss": {"method": "cross_entropy", "anchor": 0.1}},
        {"accumulate": 2}, {"data": {"train_on": "everything"}},
    ],
)  # fmt: skip
def test_more_costs_more(pico_folder: Path, workspace: Workspace, more: dict) -> None:
    small = {"model": str(pico_folder), "adapter": {"method": "lora", "rank": 2, "targets": "attention", "dropout": 0.0}}
    assert estimate(TrainSpec(**{**small, **more}), workspace).bytes > estimate(TrainSpec(**small), workspace).bytes


@pytest.mark.parametrize("less", [{"recompute": True}, {"adapter": {**LORA, "dropout": 0.0}}])
def test_less_costs_less(pico_folder: Path, workspace: Workspace, less: dict) -> None:
    usual = {"model": str(pico_folder), "adapter": LORA}
    assert estimate(TrainSpec(**{**usual, **less}), workspace).bytes < estimate(TrainSpec(**usual), workspace).bytes


def test_the_rows_there_are_make_it_smaller_than_the_longest_allowed(pico_folder: Path, workspace: Workspace) -> None:
    spec = TrainSpec(model=str(pico_folder), adapter=LORA)
    activations = [dict(estimate(spec, workspace, Rows(longest, 0.5)).memory)["activations"] for longest in (64, 128, 256)]
    assert activations[2] == dict(estimate(spec, workspace).memory)["activations"]
    short, middle, long = activations
    assert long - middle > 2 * (middle - short), "the mask of rows that are filled up grows with the square"


HALF = {"precision": "bfloat16"}
HEADS, SPREAD, MLP, READ = 2 * 192 + 2 * 96, 4 * 192 + 1000, 3 * 512, 3 * 192 + 192 + 2 * 192 + 512


@pytest.mark.parametrize(
    ("setting", "in_four_bytes", "in_two", "unmarked"),
    [
        ({"adapter": "full"}, (2 + 4) * 192 + HEADS + MLP + 512, 0, 0),
        ({"adapter": "full", "batch_size": 2}, (2 + 4) * 192 + SPREAD + MLP + 512, 0, 0),
        ({"adapter": {**LORA, "rank": 8, "dropout": 0.0}}, (2 + 2) * 192 + HEADS + MLP + 512 + 7 * 8, 0, 0),
        ({"adapter": {**LORA, "rank": 8}}, 2 * 192 + HEADS + MLP + 2 * READ + 7 * 8, 0, 4 * 3 * 192),
        ({"adapter": {**LORA, "rank": 8, "targets": "mlp"}}, 2 * 192 + HEADS + MLP + 2 * (2 * 192 + 512) + 3 * 8, 0, 4 * 2 * 192),
        ({"adapter": "full", **HALF}, (2 + 2) * 192, 5 * 192 + HEADS + MLP + 512, 0),
        ({"adapter": {**LORA, "rank": 8, "dropout": 0.0}, **HALF}, 2 * 192, HEADS + MLP + 2 * 192 + 512 + 7 * 8, 0),
        ({"adapter": {**LORA, "rank": 8}, **HALF}, 2 * 192, HEADS + MLP + 2 * READ + 7 * 8, 2 * 3 * 192),
    ],
    ids=str,
)
def test_a_block_of_the_demo_model_counted_by_hand(
    setting: dict, in_four_bytes: int, in_two: int, unmarked: int, workspace: Workspace
) -> None:
    """Width 192, 6 heads and 3 of keys of 32, MLP 512, 6 blocks. Residuals, what the norms give, queries, keys, values, the MLP.

    The mask of rows that are filled up has as many numbers a token as the rows have tokens, and keys and values then have 6 heads. What the
    lowest matrices read nothing has moved, so of theirs no mark of what was dropped is kept.
    """
    spec = TrainSpec(**{"batch_size": 1, "probes": [], "data": {"validation_share": 0.0}, **setting})
    activations = dict(estimate(spec, workspace, Rows(longest=1000, learnt=0.0)).memory)["activations"]
    norm = 4 * (3 if spec.adapter.whole else 2) * 192
    head = 4 * 1024 * 192 if spec.adapter.whole else 0  # its gradient, though no token is learnt
    assert activations == 1000 * spec.batch_size * (6 * (4 * in_four_bytes + 2 * in_two) - unmarked + norm) + head


def test_an_update_that_takes_no_gradient_holds_what_answering_holds_counted_by_hand(pico_folder: Path, workspace: Workspace) -> None:
    """Width 32, MLP 64, 400 tokens: four of the width and three of the MLP a token, and the logits of 4 tokens or of 150 with their
    probabilities; no gradient."""
    plain = {"model": str(pico_folder), "adapter": "full", "update": "mezo", "probes": [], "data": {"validation_share": 0.0}}
    for accumulate, batch, longest, learnt, at_once in ((1, 1, 8, 0.0, 0), (2, 1, 8, 0.5, 4), (2, 3, 100, 1.0, 150)):
        spec = TrainSpec(**plain, accumulate=accumulate, batch_size=batch)
        memory = dict(estimate(spec, workspace, Rows(longest, learnt)).memory)
        passing = 4 * (4 * 32 + 3 * 64)
        assert memory.pop("activations") == batch * longest * passing + 2 * 4 * 400 * at_once
        assert set(memory) == {"weights", "copy of the start"}


def test_where_activations_are_computed_anew_one_block_is_whole_and_of_the_others_the_input_is_kept(
    pico_folder: Path, workspace: Workspace
) -> None:
    """Width 32, 4 heads and 2 of keys of 8, MLP 64, 3 blocks, 400 tokens; and the gradients of one MLP and of the head."""
    spec = TrainSpec(model=str(pico_folder), adapter="full", batch_size=1, probes=[], data={"validation_share": 0.0}, recompute=True)
    block = 4 * ((2 + 4) * 32 + 2 * 32 + 2 * 16 + 3 * 64 + 64) + 4 * 2 * (32 + 64)
    for learnt, at_once in ((0.0, 0), (0.1, 100), (1.0, 250)):
        activations = dict(estimate(spec, workspace, Rows(longest=1000, learnt=learnt)).memory)["activations"]
        head, logits = 4 * 400 * 32, 2 * 4 * 400 * at_once
        assert activations == 1000 * 3 * 4 * 32 + head + max(logits, 1000 * block)


def test_an_evaluation_is_counted_where_there_is_one_with_the_longest_row_that_may_come(pico_folder: Path, workspace: Workspace) -> None:
    plain = {"model": str(pico_folder), "adapter": "full", "update": "mezo", "probes": [], "batch_size": 1}
    passing, table, logits = 4 * (4 * 32 + 3 * 64), 4 * 400 * 0.5, 2 * 4 * 400 * 64
    for share, known, longest in ((0.0, "known", 256), (0.1, "known", 256), (0.1, "", 8)):
        spec = TrainSpec(**plain, data={"validation_share": share, "max_length": 256}, known=known)
        evaluation = dict(estimate(spec, workspace, Rows(8, 0.5)).memory)["evaluation"]
        assert evaluation == 16 * longest * passing + (16 * longest * 3 * table if known else logits)
    demo = TrainSpec(**{**plain, "model": "pocket"}, data={"validation_share": 0.0})
    assert "evaluation" in dict(estimate(demo, workspace, Rows(8, 0.5)).memory), "what it knew"


def test_what_a_matrix_reads_is_known_though_it_is_stored_the_other_way_round() -> None:
    assert module._reads(Conv1D(96, 32)) == 32 == module._reads(torch.nn.Linear(32, 96))


def test_a_block_that_an_adapter_adds_is_counted(pico_folder: Path, workspace: Workspace) -> None:
    few, more = (
        dict(estimate(TrainSpec(model=str(pico_folder), adapter={"method": "block_expansion", "every": every}), workspace).memory)
        for every in (3, 1)
    )
    assert more["activations"] > 1.2 * few["activations"]


# Held against a real step.


class Counted(TorchDispatchMode):
    """The most bytes that tensors hold at once; a storage counts once and until it is let go."""

    def __init__(self, lasting: list[Tensor]) -> None:
        super().__init__()
        self.live = self.most = 0
        self.known: dict[int, int] = {}
        for tensor in lasting:
            self.add(tensor)

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.known[storage._cdata] = storage.nbytes()
            self.live += storage.nbytes()
            self.most = max(self.most, self.live)
            weakref.finalize(storage, self.drop, storage._cdata)

    def drop(self, key: int) -> None:
        self.live -= self.known.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return made


@pytest.fixture
def long_rows(tmp_path: Path) -> Path:
    return long_rows_in(tmp_path)


def long_rows_in(folder: Path) -> Path:
    """Three of four rows are longer than `LONGEST`, so that every batch is filled up to it."""
    path = folder / "long.jsonl"
    turns = [
        {"role": role, "content": "the red fox said that " * 2 ** (1 + row % 4)} for row in range(32) for role in ("user", "assistant")
    ]
    path.write_text("".join(json.dumps({"messages": turns[start : start + 2]}) + "\n" for start in range(0, 64, 2)))
    return path


@pytest.mark.parametrize(
    "setting",
    [
        {"adapter": LORA}, {"adapter": {**LORA, "dropout": 0.0}}, {"adapter": {**LORA, "targets": "attention"}}, {"adapter": "full"},
        {"adapter": {**LORA, "rank": 64}}, {"adapter": "full", "recompute": True}, {"adapter": "full", "accumulate": 2},
        {"adapter": LORA, "loss": {"method": "cross_entropy", "anchor": 0.1}}, {"adapter": LORA, "batch_size": 1},
        {"adapter": "full", "packing": True}, {"adapter": "full", "batch_size": 1}, {"adapter": "full", "precision": "bfloat16"},
        {"adapter": LORA, "precision": "bfloat16"}, {"adapter": {**LORA, "dropout": 0.0}, "precision": "bfloat16"},
        {"adapter": "parallel_adapter"}, {"adapter": {"method": "parallel_adapter", "form": "sequential", "units": 8}},
        {"adapter": "mixlora"}, {"adapter": {"method": "mixlora", "per_token": 4, "attention": False}}, {"adapter": "prefix_tuning"},
        {"adapter": {**LORA, "modules": "layers.2.*"}}, {"adapter": {"method": "llama_adapter", "blocks": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_the_estimate_is_what_the_tensors_of_a_step_take(
    setting: dict, pico_folder: Path, long_rows: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for op in ("_forward", "_backward"):  # an op of our own hides the tensors within it from whoever counts
        monkeypatch.setattr(linear_cross_entropy, op, vars(linear_cross_entropy)[op]._init_fn)
    data = {"path": str(long_rows), "max_length": LONGEST, "validation_share": 0.0, "train_on": "everything"}
    spec = TrainSpec(model=str(pico_folder), data=data, **{"batch_size": 8, "steps": 9, **setting})
    run = drain(begin(spec, workspace.home, workspace))
    run.advance()
    held = [*run.attachment.model.parameters(), *run.attachment.model.buffers(), *run.stepper.state().values()]
    counted = Counted([tensor.detach() for tensor in held])
    with counted:
        run.advance()
    start = sum(tensor.nbytes for tensor in run.attachment.state().values()) if spec.adapter.whole else 0
    assert estimate(spec, workspace).bytes == pytest.approx(counted.most + start, rel=0.12)


def test_memory_is_fullest_at_the_step_where_the_batch_is_small(workspace: Workspace) -> None:
    """Whole tuning holds gradients and a copy of what moved; a batch of one short row holds next to nothing."""
    spec = TrainSpec(adapter="full", batch_size=1, data={"max_length": 8, "validation_share": 0.0}, update="adamw")
    memory = dict(estimate(spec, workspace).memory)
    assert memory["gradients"] == memory["copies to measure the step"] == memory["weights"] and "activations" not in memory
    unwatched = TrainSpec(**{**spec.model_dump(), "probes": []})
    assert "copies to measure the step" not in dict(estimate(unwatched, workspace).memory)


def test_on_a_gpu_the_base_is_in_half_precision_and_the_start_lies_elsewhere(
    pico_folder: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "place", lambda *_: (torch.device("cuda"), torch.bfloat16))
    parameters = sum(parameter.numel() for parameter in make_model().parameters())
    reads, shared = 3 * (6 * 32 + 64), 3 * (2 * 32 + 64)  # what seven matrices of three blocks read, and what of it is not the same
    noise = [
        dict(estimate(TrainSpec(model=str(pico_folder), adapter={**LORA, "dropout": dropout}), workspace, Rows(100, 0.0)).memory)
        for dropout in (0.1, 0.0)
    ]
    marked = reads - 3 * 32  # a byte marks what dropout dropped, but not of what the lowest three read, which nothing has moved
    assert noise[0]["activations"] - noise[1]["activations"] == 8 * 100 * (2 * reads + marked - 2 * shared)
    lora, full = (dict(estimate(TrainSpec(model=str(pico_folder), adapter=adapter), workspace).memory) for adapter in (LORA, "full"))
    assert lora["weights"] == 2 * parameters and "copy of the start" not in full
    inside = parameters - 400 * 32 - 7 * 32  # without the embeddings and the seven norms
    assert full["weights"] == 4 * parameters and full["weights in half precision"] == 2 * inside


# Disk.


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_disk_is_what_a_run_writes(adapter: str, workspace: Workspace) -> None:
    spec = TrainSpec(adapter=adapter, steps=1, batch_size=1, prompts=["the"], probes=[], evaluate_every=9)
    said, folder = disk(spec, workspace), workspace.run("0001")
    list(train(spec, folder, workspace))
    written = {
        name: sum(path.stat().st_size for path in (folder / name).iterdir())
        for name in ("checkpoint", "adapter", "model")
        if (folder / name).exists()
    }
    assert written.pop("checkpoint") == pytest.approx(said.checkpoint, rel=0.05)
    assert sum(written.values()) == pytest.approx(said.artifact, rel=0.05), "one of the two"
    assert said.free > 0


def test_what_takes_turns_is_kept_as_it_was_and_the_optimizer_holds_what_moves(pico_folder: Path, workspace: Workspace) -> None:
    spec = TrainSpec(model=str(pico_folder), adapter={"method": "lisa", "blocks": 1})
    cost, memory = spec.adapter.cost(make_model()), dict(estimate(spec, workspace).memory)
    assert cost.trained < cost.moved == cost.total
    if "copy of the start" in memory:  # it lies in main memory, which is counted where the run does too
        assert memory["copy of the start"] == 4 * cost.moved
    assert memory["optimizer"] == 8 * cost.trained
    assert disk(spec, workspace).checkpoint == 4 * cost.moved + 8 * cost.trained


@pytest.mark.parametrize(
    "method", [method for method in shelf("adapters").values() if issubclass(method, Informed)], ids=lambda own: own.name
)
def test_what_an_adapter_finds_before_it_learns_is_counted_on_the_disk(method: type[Informed]) -> None:
    adapter, rows = method(), [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
    found = drain(adapter.study(make_model(), Evidence(dict.fromkeys(adapter.looks_at(), rows), 0, torch.device("cpu"))))
    written, said = sum(tensor.nbytes for tensor in found.values()), adapter.cost(make_model()).studied
    assert said >= written or written < 300, "no more than is said, but for a few names and numbers"
    assert said <= 1.2 * written


def test_what_was_found_stays_beside_the_checkpoint(pico_folder: Path, workspace: Workspace) -> None:
    found = Disk(checkpoint=30, artifact=10, free=0, studied=5)
    assert found.kept == 45 and found.most == 65
    said = disk(TrainSpec(model=str(pico_folder), adapter={"method": "olora", "rank": 4}), workspace)
    assert said.studied == 4 * 4 * 3 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert disk(TrainSpec(model=str(pico_folder)), workspace).studied == 0


def test_an_adapter_is_as_large_on_the_disk_as_what_it_saves(pico_folder: Path, workspace: Workspace) -> None:
    spec = TrainSpec(model=str(pico_folder), adapter={"method": "cola", "rank": 2, "chain": 3})
    cost = spec.adapter.cost(make_model())
    assert cost.saved > cost.trained and disk(spec, workspace).artifact == 4 * cost.saved
    half = TrainSpec(**{**spec.model_dump(), **HALF})
    assert dict(estimate(half, workspace).memory)["weights in half precision"] == 2 * (cost.trained + cost.beside), "links at rest too"


def test_what_was_best_is_kept_with_a_checkpoint_too(pico_folder: Path, workspace: Workspace) -> None:
    plain = TrainSpec(model=str(pico_folder), adapter=LORA)
    best = TrainSpec(**{**plain.model_dump(), "stop": {"keep_best": True}})
    trained = plain.adapter.cost(make_model()).trained
    assert disk(best, workspace).checkpoint - disk(plain, workspace).checkpoint == 4 * trained


def test_a_file_that_is_replaced_lies_beside_the_new_one() -> None:
    assert Disk(checkpoint=30, artifact=10, free=0).most == 60 and Disk(checkpoint=3, artifact=10, free=0).most == 13
    assert Disk(checkpoint=3, artifact=10, free=0).kept == 13


def test_the_demo_model_can_always_be_chosen(workspace: Workspace) -> None:
    assert choices(workspace)[0][0] == "pocket"


def test_what_two_runs_share_is_counted_where_both_move_something(pico_folder: Path, workspace: Workspace) -> None:
    def moved(**adapter: Any) -> module.Estimate:
        return estimate(TrainSpec(model=str(pico_folder), adapter={"method": "lora", "dropout": 0.0, **adapter}), workspace)

    attention, mlp, every = (moved(targets=part) for part in ("attention", "mlp", "all linear"))
    assert module.shared(attention, attention) == module.shared(attention, every) == 1.0
    assert module.shared(attention, mlp) == 0.0
    assert module.shared(every, mlp) == pytest.approx(mlp.trained / every.trained)
