"""The number that a run makes smaller: no dropout where nothing learns, every token alike, chance by seed and step, noises in order."""

import math
from types import SimpleNamespace

import pytest
import torch

from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import objective
from workbench.jobs.train import begin


def test_losses_without_gradients_and_of_validation_rows_know_no_dropout_and_weigh_tokens_alike(
    spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = {"adapter": {"method": "lora", "rank": 4, "dropout": 0.5}, "batch_size": 2, "accumulate": 2}
    job = drain(begin(TrainSpec(**{**spec.model_dump(), **dropped}), workspace.run("0001"), workspace))
    job.advance()
    own, window, graded = job.objective, job.batches.window(1), list[bool]()
    reading = objective.label_logp
    monkeypatch.setattr(objective, "label_logp", lambda *given: graded.append(torch.is_grad_enabled()) or reading(*given))
    for read in (lambda: own.losses(window, 1, 0.0)["loss"], lambda: own.mean_loss(window)):
        job.attachment.model.train()
        assert read() == read() == pytest.approx(own.losses(window, 1, 0.0)["loss"], rel=1e-5)
    assert graded and not any(graded), "nothing is kept for a backward pass"
    one, other = window
    counts = [len(objective.labels_of(batch)) for batch in window]
    apart = [own.mean_loss([one]), own.mean_loss([other])]
    assert counts[0] != counts[1] and own.mean_loss(window) == pytest.approx(
        (counts[0] * apart[0] + counts[1] * apart[1]) / sum(counts), rel=1e-5
    )
    assert math.isnan(own.mean_loss([]))


def test_chance_in_the_objective_is_of_the_seed_and_the_step_and_noises_come_in_their_order(spec: TrainSpec, workspace: Workspace) -> None:
    def job(seed: int) -> objective.Objective:
        noisy = TrainSpec(**{**spec.model_dump(), "loss": {"method": "noisefit", "strength": 2.0}, "seed": seed})
        return drain(begin(noisy, workspace.run(f"000{seed}"), workspace)).objective

    one, other = job(1), job(2)
    window = drain(begin(spec, workspace.run("0003"), workspace)).batches.window(1)
    first, again, later, elsewhere = (
        own.losses(window, step, 0.0)["objective"] for own, step in ((one, 1), (one, 1), (one, 2), (other, 1))
    )
    assert first == again and len({first, later, elsewhere}) == 3
    order = list[str]()
    one.noises = [SimpleNamespace(disturb=lambda batch, showing, name=name: order.append(name) or batch) for name in ("a", "b")]
    one.losses(window, 1, 0.0)
    assert order == ["a", "b"]


@pytest.mark.parametrize(
    ("loss", "adds"), [("noisefit", "difference"), ({"method": "cross_entropy", "anchor": 0.5}, "penalty")], ids=["difference", "penalty"]
)
def test_what_a_loss_adds_is_a_mean_over_the_tokens_of_the_whole_window(
    loss: object, adds: str, spec: TrainSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each token, in two batches: one in all."""
    parts = TrainSpec(**{**spec.model_dump(), "loss": loss, "batch_size": 2, "accumulate": 2})
    job = drain(begin(parts, workspace.run("0001"), workspace))
    monkeypatch.setattr(type(parts.loss), "weights", lambda self, stats: torch.zeros_like(stats.logp))
    monkeypatch.setattr(type(parts.loss), adds, lambda self, table, *_: torch.ones(len(table)))
    assert job.objective.losses(job.batches.window(1), 1, 0.0)["objective"] == pytest.approx(1.0)
