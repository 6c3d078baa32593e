"""A run in links: each has its own steps, rate, optimizer and average, and a run that was stopped goes on as if it had not been."""

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs.story import run, same, series, stopped
from workbench.core.errors import SpecError
from workbench.core.events import Measured, Noted
from workbench.core.job import drain
from workbench.core.spec import TrainSpec, parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint
from workbench.jobs.estimate import disk, estimate
from workbench.jobs.schedule import link, opens, rate
from workbench.jobs.train import begin, train
from workbench.materials.lora import read_lora

COLA = {"method": "cola", "rank": 2, "dropout": 0.1, "targets": "attention", "chain": 3}
AVERAGED = {"update": {"method": "adamw", "lr": 1e-2, "average": 0.5}}


def linked(spec: TrainSpec, **changes: object) -> TrainSpec:
    """Seven steps in links of 2, 2 and 3, with little else."""
    usual = {"adapter": COLA, "steps": 7, "evaluate_every": 7, "sample_every": 100, "checkpoint_every": 100, "prompts": ["Where is Kori?"]}
    return TrainSpec.parse({**spec.model_dump(mode="json"), **usual, **changes})


def of(steps: int, chain: int, **more: object) -> TrainSpec:
    return TrainSpec(steps=steps, adapter={"method": "cola", "chain": chain}, **more)


def test_the_links_follow_one_another_and_are_as_long_as_one_another() -> None:
    for steps in range(1, 24):
        for chain in range(1, steps + 1):
            spec = of(steps, chain)
            found = [link(step, spec) for step in range(1, steps + 1)]
            lengths = [sum(number == wanted for number, *_ in found) for wanted in range(1, chain + 1)]
            assert sum(lengths) == steps and max(lengths) - min(lengths) <= 1 <= min(lengths)
            assert all(before < step <= last for step, (_, before, last) in enumerate(found, 1))
            begins = [opens(step, spec) for step in range(1, steps + 1)]
            assert [number for number in begins if number] == list(range(2, chain + 1))
            assert all(begins[sum(lengths[: number - 1])] == number for number in range(2, chain + 1))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_each_link_has_the_rates_of_a_run_of_its_own(schedule: str) -> None:
    rates = [rate(step, of(32, 3, warmup=0.2, schedule=schedule)) for step in range(1, 33)]
    alone = {steps: [rate(step, of(steps, 1, warmup=0.2, schedule=schedule)) for step in range(1, steps + 1)] for steps in (10, 11)}
    assert rates == alone[10] + alone[11] + alone[11]
    assert [step for step in range(2, 33) if rates[step - 2] < 1 == rates[step - 1]] == [2, 12, 23], "three warm-ups"


def test_a_run_with_one_link_opens_none() -> None:
    spec = TrainSpec(steps=9)
    assert spec.adapter.links() == 1
    assert [link(step, spec) for step in (1, 9)] == [(1, 0, 9)] * 2 and not any(opens(step, spec) for step in range(1, 12))


def test_fewer_steps_than_links_are_refused_with_the_other_mistakes() -> None:
    with pytest.raises(SpecError) as error:
        parse_spec({"adapter": {"method": "cola", "chain": 5}, "steps": 4, "probes": [], "update": {"method": "adamw", "guard": "cap"}})
    assert "steps is 4, but the adapter's 5 links need one each; set steps to 5 or more, or take fewer links" in error.value.mistakes
    assert len(error.value.mistakes) == 2
    assert of(5, 5).steps == 5


def test_a_run_says_where_its_links_begin_and_saves_them_all(spec: TrainSpec, workspace: Workspace) -> None:
    events = run(linked(spec), workspace.run("0001"), workspace)
    notes = [(note.step, note.text) for note in events if isinstance(note, Noted)]
    assert notes == [(3, "From step 3: link 2 of 3 begins."), (5, "From step 5: link 3 of 3 begins.")]
    rates = series(events, "lr")
    assert rates[1] == rates[3] == rates[5] == 1e-2 > rates[2] == rates[4]
    pairs = read_lora(workspace.run("0001") / "adapter", "it").factors
    for pair in pairs.values():
        assert pair.right.shape[0] == 6
        assert all(pair.left[:, place : place + 2].abs().max() > 1e-4 for place in (0, 2, 4)), "each link has learnt"
        assert torch.linalg.matrix_rank(pair.left @ pair.right, rtol=1e-6) > 2


def test_a_chain_of_one_is_lora(spec: TrainSpec, workspace: Workspace) -> None:
    lora = {name: value for name, value in COLA.items() if name != "chain"} | {"method": "lora"}
    one = run(linked(spec, adapter={**COLA, "chain": 1}), workspace.run("0001"), workspace)
    other = run(linked(spec, adapter=lora), workspace.run("0002"), workspace)
    assert series(one, "loss") == series(other, "loss") and series(one, "validation_loss") == series(other, "validation_loss")
    assert same(*(workspace.run(name) / "adapter" for name in ("0001", "0002")))
    assert not [event for event in one if isinstance(event, Noted) and "link" in event.text]


def test_a_link_begins_with_an_optimizer_of_its_own_on_what_may_move(spec: TrainSpec, workspace: Workspace) -> None:
    wanted = linked(spec)
    job = drain(begin(wanted, workspace.run("0001"), workspace))
    taken = []
    for _ in range(wanted.steps):
        job.advance()
        moving = {id(parameter) for group in job.stepper.optimizer.param_groups for parameter in group["params"]}
        assert moving == {id(parameter) for _, parameter in job.attachment.trained()}
        taken.append(int(job.stepper.state()["0.step"]))
    assert taken == [1, 2, 1, 2, 1, 2, 3]


BUSY = {"evaluate_every": 1, "checkpoint_every": 2, "stop": {"keep_best": True}, **AVERAGED}


ANY = [*((step, Measured) for step in range(1, 7)), (2, Noted), (4, Noted)]  # also with the new link said and not begun


@pytest.mark.parametrize(
    ("changes", "stops"), [(BUSY, ANY), ({}, ANY[1:5:2]), ({"update": {"method": "muon"}}, ANY[1:3])], ids=["busy", "plain", "muon"]
)
def test_a_run_that_was_stopped_at_any_step_goes_on_bit_for_bit(
    spec: TrainSpec, workspace: Workspace, changes: dict, stops: list[tuple[int, type]]
) -> None:
    wanted = linked(spec, **changes)
    whole = run(wanted, workspace.run("0001"), workspace)
    for step, at in stops:
        folder = workspace.run(f"1{step}{int(at is Noted)}0")
        first = stopped(wanted, folder, workspace, step, at)
        assert checkpoint.load(folder)[0] == step
        second = run(wanted, folder, workspace)
        for name in ("loss", "lr", "validation_loss"):
            assert series(first, name) | series(second, name) == series(whole, name), (step, at, name)
        assert same(folder / "adapter", workspace.run("0001") / "adapter"), (step, at)


def test_a_run_that_died_goes_on_from_the_checkpoint_between_two_links(spec: TrainSpec, workspace: Workspace) -> None:
    wanted = linked(spec, checkpoint_every=4, **AVERAGED)
    whole = run(wanted, workspace.run("0001"), workspace)
    dying = train(wanted, workspace.run("0002"), workspace)
    for event in dying:
        if isinstance(event, Measured) and event.step == 6:
            kept = (workspace.run("0002") / checkpoint.FILE).read_bytes()
            dying.close()
    (workspace.run("0002") / checkpoint.FILE).write_bytes(kept)  # stopping wrote another, which dying would not have
    assert checkpoint.load(workspace.run("0002"))[0] == 4
    again = run(wanted, workspace.run("0002"), workspace)
    assert series(again, "loss") == {step: loss for step, loss in series(whole, "loss").items() if step > 4}
    assert same(*(workspace.run(name) / "adapter" for name in ("0001", "0002")))


@pytest.mark.parametrize("at", [3, 4])
def test_a_change_where_a_link_begins_takes_nothing_of_the_old_optimizer_along(spec: TrainSpec, workspace: Workspace, at: int) -> None:
    """One that moves nothing changes no loss, and one that does is heeded."""
    plain = series(run(linked(spec), workspace.run("0001"), workspace), "loss")
    idle = linked(spec, changes=[{"at": at, "set": {"update.kl_bound": 0.1}}])
    assert series(run(idle, workspace.run("0002"), workspace), "loss") == plain
    faster = run(linked(spec, changes=[{"at": at, "set": {"update.lr": 0.05}}]), workspace.run("0003"), workspace)
    assert max(series(faster, "lr").values()) == 0.05 and series(faster, "loss")[7] != plain[7]


def test_a_link_that_closes_keeps_its_average(spec: TrainSpec, workspace: Workspace) -> None:
    wanted = linked(spec, **AVERAGED)
    job = drain(begin(wanted, workspace.run("0001"), workspace))
    for _ in range(2):
        job.advance()
    slow = {name: tensor.clone() for name, tensor in job.average.slow.items()}
    fast = {name: parameter.detach().clone() for name, parameter in job.attachment.trained()}
    job.advance()
    state = job.attachment.state()
    assert slow.keys() == fast.keys() and all(torch.equal(state[name], slow[name]) for name in slow)
    assert any(not torch.equal(state[name], fast[name]) for name in fast)
    assert job.average.slow.keys() == {name for name, _ in job.attachment.trained()} and not job.average.slow.keys() & slow.keys()


def test_the_best_may_have_fewer_links(spec: TrainSpec, workspace: Workspace) -> None:
    wild = {"changes": [{"at": 3, "set": {"update.lr": 20.0}}], "stop": {"keep_best": True}, "evaluate_every": 1}
    folder = workspace.run("0001")
    events = run(linked(spec, **wild), folder, workspace)
    validation = series(events, "validation_loss")
    best = min(validation, key=validation.__getitem__)
    assert 0 < best <= 2
    assert {pair.right.shape[0] for pair in read_lora(folder / "adapter", "it").factors.values()} == {2}
    kept = checkpoint.load(folder)[1]
    assert {name.split(".")[-2] for name in kept["best"]} == {"default"} < {name.split(".")[-2] for name in kept["adapter"]}
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(saved[f"base_model.model.{name.replace('.default', '')}"], tensor) for name, tensor in kept["best"].items())


def test_what_the_links_take_is_told(spec: TrainSpec, workspace: Workspace) -> None:
    wide = {**COLA, "rank": 64, "targets": "all linear"}
    wanted, folder = linked(spec, adapter=wide), workspace.run("0001")
    said = disk(wanted, workspace)
    run(wanted, folder, workspace)
    for name, size in (("checkpoint", said.checkpoint), ("adapter", said.artifact)):
        assert sum(path.stat().st_size for path in (folder / name).iterdir()) == pytest.approx(size, rel=0.05)
    memory, moved = dict(estimate(wanted, workspace).memory), estimate(wanted, workspace).trained
    assert memory["adapter"] == 3 * 4 * moved and memory["optimizer"] == 8 * moved
    half = linked(spec, adapter=wide, precision="bfloat16", batch_size=64, probes=[])
    assert dict(estimate(half, workspace).memory)["weights in half precision"] == 3 * 2 * moved
