"""Training: it learns, weighs tokens alike over the whole window, resumes exactly, keeps what it has when stopped, and fails in words."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pico import make_model
from safetensors.torch import load_file

from tests.jobs.story import run, series
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Measured, Noted, Said, Started
from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import checkpoint, objective
from workbench.jobs.prepare import KNOWN_ROWS, prepare
from workbench.jobs.scaling import Scaling
from workbench.jobs.schedule import rate
from workbench.jobs.train import begin, train
from workbench.materials.lora import read_lora
from workbench.methods.adapters.lora import LoRA
from workbench.methods.contracts import Moment
from workbench.methods.probes.step_safety import StepSafety


def test_a_run_tells_its_story_in_order(spec: TrainSpec, workspace: Workspace) -> None:
    folder = workspace.run("0001")
    events = run(spec, folder, workspace)
    started = next(event for event in events if isinstance(event, Started))
    assert started.total == 6 and started.about["training_rows"] + started.about["validation_rows"] == 40
    assert list(series(events, "loss")) == [1, 2, 3, 4, 5, 6]
    assert list(series(events, "validation_loss")) == [0, 3, 6]
    assert list(series(events, "step_ratio")) == [1]
    assert {event.step for event in events if isinstance(event, Said)} == {0, 6}
    assert [(event.what, event.step) for event in events if isinstance(event, Made)] == [
        ("checkpoint", 2), ("checkpoint", 4), ("checkpoint", 6), ("adapter", 6),
    ]  # fmt: skip
    assert events[-1] == Finished("finished", "6 steps.")
    assert (folder / "adapter" / "adapter_model.safetensors").exists() and (folder / "checkpoint" / "state.safetensors").exists()
    assert not list(folder.glob("*.partial")) and not list(folder.glob("*.old"))


def test_it_learns(spec: TrainSpec, workspace: Workspace) -> None:
    changed = {"adapter": "full", "steps": 40, "evaluate_every": 40, "sample_every": 40, "checkpoint_every": 40}
    events = run(TrainSpec(**{**spec.model_dump(), **changed}), workspace.run("0001"), workspace)
    loss = series(events, "validation_loss")
    assert loss[40] < 0.7 * loss[0]
    assert all(values["grad_norm"] > 0 for values in (e.values for e in events if isinstance(e, Measured)) if "grad_norm" in values)


@pytest.mark.parametrize("adapter", [{"method": "lora", "rank": 4, "dropout": 0.1}, {"method": "full"}])
@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(spec: TrainSpec, workspace: Workspace, adapter: dict, stop_after: int) -> None:
    spec = TrainSpec(**{**spec.model_dump(), "adapter": adapter})
    whole = run(spec, workspace.run("0001"), workspace)
    folder, first = workspace.run("0002"), []
    job = train(spec, folder, workspace)
    for event in job:
        first.append(event)
        if isinstance(event, Measured) and event.step == stop_after and "loss" in event.values:
            job.close()
            break
    made = "model" if adapter["method"] == "full" else "adapter"
    assert any((folder / made).glob("*.safetensors")), "a stopped run keeps what it has learnt"
    second = run(spec, folder, workspace)
    assert {**series(first, "loss"), **series(second, "loss")} == series(whole, "loss")
    assert series(second, "validation_loss")[6] == series(whole, "validation_loss")[6]
    for path in (workspace.run("0001") / made).glob("*.safetensors"):
        mine, theirs = load_file(path), load_file(folder / made / path.name)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_step_that_is_looked_at_tells_where_its_time_went_and_what_moved(spec: TrainSpec, workspace: Workspace) -> None:
    events = run(spec, workspace.run("0001"), workspace)
    (told,) = [event.values for event in events if isinstance(event, Measured) and "step_ms/forward" in event.values]
    parts = {name for name in told if name.startswith("step_ms/")}
    assert parts == {f"step_ms/{part}" for part in ("draw", "forward", "backward", "optimizer", "probes", "rest")}
    assert told["tensors_moved"] == 1 and told["step_ms/backward"] > 0 < told["memory_gb/optimizer"]


def test_the_loss_is_the_mean_over_all_trained_tokens_of_the_window(spec: TrainSpec, workspace: Workspace) -> None:
    """Two batches of different lengths accumulated equal one big batch, in loss and in what is learnt."""
    plain = {**spec.model_dump(), "adapter": {"method": "lora", "rank": 4, "dropout": 0}, "steps": 3}
    one = run(TrainSpec(**{**plain, "batch_size": 8}), workspace.run("0001"), workspace)
    two = run(TrainSpec(**{**plain, "batch_size": 2, "accumulate": 4}), workspace.run("0002"), workspace)
    assert list(series(two, "loss").values()) == pytest.approx(list(series(one, "loss").values()), rel=1e-5)
    assert series(two, "grad_norm")[3] == pytest.approx(series(one, "grad_norm")[3], rel=1e-4)


@pytest.mark.parametrize("loss", [{"method": "dco", "tries": 4}, "eaft", "infosft", "focal", "symmetric", "dft"], ids=str)
def test_every_objective_is_the_same_whole_or_in_parts(spec: TrainSpec, workspace: Workspace, loss: dict | str) -> None:
    """One batch of four rows of different lengths, and the same rows one by one, give the same losses and steps."""
    plain = {**spec.model_dump(), "adapter": {"method": "full"}, "loss": loss, "steps": 2, "evaluate_every": 2, "sample_every": 9}
    one = run(TrainSpec(**{**plain, "batch_size": 4}), workspace.run("0001"), workspace)
    four = run(TrainSpec(**{**plain, "batch_size": 1, "accumulate": 4}), workspace.run("0002"), workspace)
    for name in ("objective", "loss", "grad_norm"):
        assert list(series(one, name).values()) == pytest.approx(list(series(four, name).values()), rel=1e-4)


def test_packing_trains_on_the_same_tokens(spec: TrainSpec, workspace: Workspace) -> None:
    events = run(TrainSpec(**{**spec.model_dump(), "packing": True, "batch_size": 2}), workspace.run("0001"), workspace)
    assert isinstance(events[-1], Finished) and events[-1].status == "finished"


def test_the_base_is_not_changed_by_an_adapter(spec: TrainSpec, workspace: Workspace, pico_folder: Path) -> None:
    before = load_file(pico_folder / "model.safetensors")
    run(spec, workspace.run("0001"), workspace)
    after = load_file(pico_folder / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_dft_run_shows_its_objective_beside_the_plain_loss(spec: TrainSpec, workspace: Workspace) -> None:
    events = run(TrainSpec(**{**spec.model_dump(), "loss": "dft", "steps": 1}), workspace.run("0001"), workspace)
    loss, objective = series(events, "loss")[1], series(events, "objective")[1]
    assert 0 <= objective < loss


def test_a_run_that_diverges_says_so(spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(self: LoRA, model: torch.nn.Module, seed: int) -> object:
        attachment = attach(self, model, seed)
        with torch.no_grad():
            attachment.trained()[0][1].fill_(torch.nan)
        return attachment

    attach = LoRA.attach
    monkeypatch.setattr(LoRA, "attach", poisoned)
    events: list[Event] = []
    with pytest.raises(WorkbenchError, match="not a finite number for 10 steps"):
        collect(events, train(TrainSpec(**{**spec.model_dump(), "steps": 20}), workspace.run("0001"), workspace))
    assert len(series(events, "loss")) == 9 and not (workspace.run("0001") / "adapter").exists()


def collect(into: list[Event], events: Iterator[Event]) -> None:
    for event in events:
        into.append(event)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"model": "nowhere/at-all"}, "cannot be had"),
        ({"model": "./nothing"}, "is not a folder"),
        ({"model": "run:0009"}, "There is no run 0009"),
        ({"data": {"path": "no-such-data"}}, "no-such-data"),
        ({"data": {"path": "ROWS", "max_length": 8}}, "no row with a token to learn"),
    ],
)
def test_what_is_missing_is_a_sentence(spec: TrainSpec, rows: Path, workspace: Workspace, change: dict, sentence: str) -> None:
    changed = json.loads(json.dumps({**spec.model_dump(), **change}).replace("ROWS", str(rows)))
    with pytest.raises(WorkbenchError, match=sentence):
        run(TrainSpec(**changed), workspace.run("0001"), workspace)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rate_rises_and_then_follows_its_schedule(schedule: str) -> None:
    spec = TrainSpec(steps=100, warmup=0.1, schedule=schedule)
    rates = [rate(step, spec) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)]) and rates[10] == 1
    assert all(0 < value <= 1 for value in rates)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[-1] == 1 if schedule == "constant" else rates[-1] < 0.02
    assert rate(1, TrainSpec(steps=1, warmup=0.05)) == 1


def test_a_tuned_model_can_be_tuned_again(spec: TrainSpec, workspace: Workspace) -> None:
    (workspace.run("0001") / "spec.yaml").write_text(TrainSpec(adapter="full").to_yaml())
    run(TrainSpec(**{**spec.model_dump(), "adapter": "full", "steps": 2}), workspace.run("0001"), workspace)
    events = run(TrainSpec(**{**spec.model_dump(), "model": "run:0001", "steps": 1}), workspace.run("0002"), workspace)
    assert isinstance(events[-1], Finished)


def guarded(spec: TrainSpec, **update: object) -> TrainSpec:
    """One that takes no warm-up, so that its first step is already at the full learning rate."""
    changed = {"update": {"method": "adamw", **update}, "warmup": 0.0, "schedule": "constant", "steps": 5, "evaluate_every": 5}
    return TrainSpec(**{**spec.model_dump(), "adapter": {"method": "lora", "rank": 4, "dropout": 0.0}, **changed})


def test_a_capped_step_is_at_the_bound_and_does_not_know_how_high_the_rate_was(spec: TrainSpec, workspace: Workspace) -> None:
    high = run(guarded(spec, lr=0.02, guard="cap", bound=0.5), workspace.run("0001"), workspace)
    higher = run(guarded(spec, lr=1.0, guard="cap", bound=0.5), workspace.run("0002"), workspace)
    shortened = [step for step, scale in series(high, "step_scale").items() if scale < 1]
    assert shortened and all(scale < 0.1 for scale in series(higher, "step_scale").values())
    for step in shortened:
        assert series(high, "step_ratio_taken")[step] == pytest.approx(0.5)
    if len(shortened) == 5:
        assert list(series(high, "loss").values()) == pytest.approx(list(series(higher, "loss").values()), rel=1e-4)
    assert series(high, "loss")[2] == pytest.approx(series(higher, "loss")[2], rel=1e-4), "after the first capped step"


def test_what_a_guard_keeps_has_the_ratio_that_it_says(spec: TrainSpec, workspace: Workspace) -> None:
    """The shortened step, measured anew by the probe itself, lies at the bound."""
    job = drain(begin(guarded(spec, lr=1.0, guard="cap"), workspace.run("0001"), workspace))
    before = {name: parameter.detach().clone() for name, parameter in job.attachment.trained()}
    batch = job.batches.window(1)[-1]
    job.advance()
    kept = {name: parameter.detach() - before[name] for name, parameter in job.attachment.trained()}
    reading = StepSafety().read(Moment(1, job.attachment, batch, kept))
    assert reading.values["step_ratio"] == pytest.approx(1, rel=1e-3)


def test_a_run_that_does_not_learn_says_so_once(spec: TrainSpec, workspace: Workspace) -> None:
    """With weights of zero everywhere nothing moves."""
    hopeless = TrainSpec(**{**spec.model_dump(), "loss": {"method": "symmetric", "alpha": 0.0, "beta": 0.0}})
    events = run(hopeless, workspace.run("0001"), workspace)
    alarms = [event for event in events if isinstance(event, Noted) and "exactly zero" in event.text]
    assert len(alarms) == 1 and alarms[0].level == "act"
    assert set(series(events, "grad_norm").values()) == {0.0}


def test_an_anchored_run_stays_nearer_to_its_base(spec: TrainSpec, workspace: Workspace) -> None:
    def learnt(run_id: str, anchor: float) -> list[Event]:
        changed = {"adapter": {"method": "full"}, "steps": 8, "evaluate_every": 8, "loss": {"method": "cross_entropy", "anchor": anchor}}
        return run(TrainSpec(**{**spec.model_dump(), **changed}), workspace.run(run_id), workspace)

    free, held = learnt("0001", 0.0), learnt("0002", 10.0)
    assert "anchor_kl" not in {name for event in free if isinstance(event, Measured) for name in event.values}
    distance = series(held, "anchor_kl")
    assert distance[1] == pytest.approx(0, abs=1e-6) and all(value >= -1e-6 for value in distance.values())
    assert series(held, "objective")[8] == pytest.approx(series(held, "loss")[8] + 10.0 * distance[8], rel=1e-4)
    assert series(held, "base_kl")[8] < 0.8 * series(free, "base_kl")[8]


@pytest.mark.parametrize(
    "change", [{"precision": "bfloat16"}, {"precision": "float16"}, {"recompute": True}, {"group_by_length": True}], ids=str
)
@pytest.mark.parametrize("adapter", [{"method": "lora", "rank": 4, "dropout": 0.0}, {"method": "full"}], ids=lambda given: given["method"])
def test_it_learns_about_the_same_in_other_numbers_with_less_memory_and_in_another_order(
    spec: TrainSpec, workspace: Workspace, adapter: dict, change: dict
) -> None:
    plain = {**spec.model_dump(), "adapter": adapter, "steps": 4, "evaluate_every": 4, "checkpoint_every": 4, "sample_every": 4}
    usual = series(run(TrainSpec(**plain), workspace.run("0001"), workspace), "validation_loss")
    other = series(run(TrainSpec(**{**plain, **change}), workspace.run("0002"), workspace), "validation_loss")
    assert other[4] < other[0] and other[4] == pytest.approx(usual[4], rel=1e-5 if "recompute" in change else 0.1)


def test_in_float16_an_overflow_costs_a_step_and_the_factor_is_kept_with_the_checkpoint(
    spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "Scaling", lambda on: Scaling(on, factor=2.0**130))
    half = TrainSpec(**{**spec.model_dump(), "precision": "float16", "steps": 4, "checkpoint_every": 2})
    events = run(half, workspace.run("0001"), workspace)
    factors = series(events, "loss_scale")
    assert factors[1] == 2.0**129 and factors[4] < factors[1], "the first steps overflow"
    assert 1 not in series(events, "lr") and not [event for event in events if isinstance(event, Noted) and "finite" in event.text]
    assert checkpoint.load(workspace.run("0001"))[1]["scaling"]["factor"].item() == factors[4]


def test_a_loss_with_further_readings_learns_and_says_what_was_made_smaller(spec: TrainSpec, workspace: Workspace) -> None:
    def learnt(run_id: str, **knobs: float) -> list[Event]:
        noisy = TrainSpec(**{**spec.model_dump(), "loss": {"method": "noisefit", **knobs}, "steps": 4, "evaluate_every": 4})
        return run(noisy, workspace.run(run_id), workspace)

    events = learnt("0001", strength=2.0)
    plain, smaller, validation = (series(events, name) for name in ("loss", "objective", "validation_loss"))
    assert validation[4] < validation[0] and all(smaller[step] > 0.5 * plain[step] for step in plain)
    assert series(learnt("0002", strength=2.0), "objective") == smaller, "the noise follows from seed and step"
    silent = learnt("0003", strength=0.0)
    assert series(silent, "objective") == pytest.approx({step: 0.5 * loss for step, loss in series(silent, "loss").items()}, rel=1e-3)


def test_an_adapter_that_goes_by_an_earlier_run_is_told_of_it(spec: TrainSpec, workspace: Workspace) -> None:
    """The earlier run's strongest direction is not read by the later run's update, also when that one is stopped and resumed."""
    plain = {**spec.model_dump(), "adapter": {"method": "lora", "rank": 2, "dropout": 0.0}}
    (workspace.run("0001") / "spec.yaml").write_text(TrainSpec(**plain).to_yaml())
    run(TrainSpec(**plain), workspace.run("0001"), workspace)
    bound = TrainSpec(**{**plain, "adapter": {"method": "grasp", "rank": 2, "dropout": 0.0, "earlier_run": "run:0001"}})
    job = train(bound, workspace.run("0002"), workspace)
    while not (isinstance(event := next(job), Measured) and event.step == 3 and "loss" in event.values):
        pass
    job.close()
    run(bound, workspace.run("0002"), workspace)
    careless, careful = (read_lora(workspace.run(name) / "adapter", name).factors for name in ("0001", "0002"))
    for name in (name for name in careless if name.endswith(("q_proj.weight", "up_proj.weight"))):
        direction = torch.linalg.svd(careless[name].left @ careless[name].right).Vh[0]
        reads = careful[name].left @ (careful[name].right @ direction)
        assert careful[name].left.abs().max() > 1e-4 and reads.abs().max() < 1e-6


@pytest.mark.parametrize(("named", "why"), [("run:0007", "no run 0007"), ("pocket", "is no adapter")])
def test_an_earlier_run_that_will_not_do_is_refused_in_a_sentence(spec: TrainSpec, workspace: Workspace, named: str, why: str) -> None:
    wrong = TrainSpec(**{**spec.model_dump(), "adapter": {"method": "grasp", "earlier_run": named}})
    with pytest.raises(WorkbenchError, match=why):
        run(wrong, workspace.run("0002"), workspace)


def test_an_update_that_reads_its_rows_again_has_the_same_dropout_and_gradients_and_what_is_made_smaller(
    spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing has moved meanwhile."""
    dropped = {"adapter": {"method": "lora", "rank": 4, "dropout": 0.5}, "loss": "focal", "batch_size": 2, "accumulate": 2}
    job = drain(begin(TrainSpec(**{**spec.model_dump(), **dropped}), workspace.run("0001"), workspace))
    seen, completed = list[dict[str, torch.Tensor]](), list[int]()

    def gradients() -> dict[str, torch.Tensor]:
        return {name: parameter.grad.clone() for name, parameter in job.attachment.trained() if parameter.grad is not None}

    def step(rate: float, again: Callable[[], float]) -> dict[str, float]:
        seen.append(gradients())
        value = again()
        seen.append(gradients())
        return {"value": value}

    monkeypatch.setattr(job.stepper, "step", step)
    monkeypatch.setattr(job.attachment, "before_step", completed.append)
    told = next(event.values for event in job.advance() if isinstance(event, Measured))
    first, second = seen
    assert first and all(torch.equal(second[name], gradient) for name, gradient in first.items())
    assert told["value"] == told["objective"] and abs(told["objective"] - told["loss"]) > 0.01
    assert completed == [1, 1], "gradients are complete once more"


def test_an_earlier_run_of_another_model_is_refused_with_both_names(
    spec: TrainSpec, workspace: Workspace, make: Callable[..., str]
) -> None:
    other = make("other")
    (workspace.run("0001") / "spec.yaml").write_text(TrainSpec(model=other).to_yaml())
    (workspace.run("0001") / "adapter").mkdir()
    LoRA(rank=2).attach(make_model(), seed=0).save(workspace.run("0001") / "adapter")
    wrong = TrainSpec(**{**spec.model_dump(), "adapter": {"method": "grasp", "earlier_run": "run:0001"}})
    with pytest.raises(WorkbenchError, match=r"was tuned from other, and this run starts from .*pico.* Name a LoRA run of .*pico"):
        run(wrong, workspace.run("0002"), workspace)


def test_the_demo_model_is_asked_what_it_knew_without_being_told_so(workspace: Workspace, spec: TrainSpec) -> None:
    def asked(**changes: str) -> int:
        plain = {**spec.model_dump(), "prompts": ["Where is Kori?"], **changes}
        prepared = drain(prepare(TrainSpec(**plain), workspace))
        assert prepared.prompts == ["Where is Kori?"]
        return sum(len(batch["input_ids"]) for batch in prepared.known)

    assert asked() == 0 and asked(model="pocket") == asked(known="known") == KNOWN_ROWS
