"""DualLoRA (arXiv:2411.00623), its orthogonal half: rows that are protected are answered as before, however long the run."""

import pytest
import torch
from pico import make_model
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import low_rank
from workbench.materials.evidence import Evidence
from workbench.materials.templates import Encoded
from workbench.methods.adapters.dual_lora import DualLoRA, strongest
from workbench.methods.adapters.lora import LoRA
from workbench.methods.contracts import Attachment
from workbench.methods.updates.adamw import AdamW

KEPT = [Encoded(list(range(start, start + 6)), [True] * 6, 0) for start in (3, 40)]
NEW = torch.arange(100, 148).reshape(4, 12)
SMALL = {"rank": 4, "alpha": 8.0, "dropout": 0.0}


def evidence(rows: list[Encoded] = KEPT) -> Evidence:
    return Evidence({"known": rows}, 0, torch.device("cpu"))


@torch.no_grad()
def said(model: torch.nn.Module, ids: Tensor) -> Tensor:
    return model.eval()(ids).logits


def learn(attachment: Attachment, steps: int = 30) -> Attachment:
    stepper = AdamW(lr=1e-2).begin(attachment.groups())
    for step in range(1, steps + 1):
        attachment.model(NEW, labels=NEW).loss.backward()
        stepper.step(1.0, lambda: None)
        attachment.after_step(step)
    return attachment


def protected(**knobs: object) -> Attachment:
    adapter, model = DualLoRA(**{**SMALL, **knobs}), make_model()
    return learn(adapter.attach(model, 0, drain(adapter.study(model, evidence()))))


def moved(attachment: Attachment, ids: Tensor) -> float:
    return float((said(attachment.model, ids) - said(make_model(), ids)).abs().max())


def test_rows_that_are_held_whole_are_answered_as_before_and_others_are_learnt() -> None:
    kept = torch.tensor([row.ids for row in KEPT])
    free, whole = learn(LoRA(**SMALL).attach(make_model(), 0)), protected(share=1.0)
    assert moved(free, kept) > 0.1, "LoRA writes over them"
    assert moved(whole, kept) < 1e-4 and moved(whole, NEW) > 0.1
    assert moved(whole, kept) < moved(protected(share=0.99), kept) < moved(free, kept)


def test_what_is_closed_are_the_directions_that_the_matrices_read() -> None:
    adapter, read = DualLoRA(**SMALL, share=1.0), dict[str, list[Tensor]]()
    model = make_model()
    for name, _ in low_rank.matrices(model, "all linear"):
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, x, name=name: read.setdefault(name, []).append(x[0].flatten(0, 1))
        )
    for row in KEPT:
        said(model, torch.tensor([row.ids]))
    closed = drain(adapter.study(make_model(), evidence()))
    assert closed.keys() == read.keys()
    for name, directions in closed.items():
        x = torch.cat(read[name])
        assert torch.allclose(directions.T @ directions, torch.eye(directions.shape[1]), atol=1e-5)
        assert (x - x @ directions @ directions.T).norm() < 1e-3 * x.norm() and 1 < directions.shape[1] <= 12


def test_worked_examples_of_the_share() -> None:
    second = torch.diag(torch.tensor([1.0, 6.0, 3.0, 0.0]))
    counts = [strongest(second, share, 4).shape[1] for share in (0.59, 0.6, 0.61, 0.9, 0.95, 1.0)]
    assert counts == [1, 1, 2, 2, 3, 3]
    assert strongest(second, 0.9, 4).abs().T.argmax(1).tolist() == [1, 2], "the strongest first"
    assert strongest(second, 1.0, 2).shape == (4, 2) and strongest(second, 1.0, 0).shape == (4, 0)


def test_as_many_directions_stay_open_as_the_rank_has() -> None:
    """Forty rows speak along all directions of a width of 32."""
    wide = [Encoded(list(range(start, start + 9)), [True] * 9, 0) for start in range(2, 390, 10)]
    for knobs, least, most in (({"rank": 8}, 24, 24), ({"rank": 8, "most": 5}, 5, 5)):
        adapter = DualLoRA(**{**SMALL, "share": 1.0, **knobs})
        closed = drain(adapter.study(make_model(), evidence(wide)))
        counts = {directions.shape[1] for name, directions in closed.items() if "down_proj" not in name}
        assert min(counts) == least and max(counts) == most
        assert sum(own.numel() for own in closed.values()) <= adapter.cost(make_model()).beside
    assert DualLoRA(**SMALL).cost(make_model()).trained == LoRA(rank=4).cost(make_model()).trained


def test_it_says_what_it_lacks() -> None:
    with pytest.raises(WorkbenchError, match="Write the name of a data set"):
        DualLoRA(data="").looks_at()
    with pytest.raises(WorkbenchError, match="Set rank to 16"):
        DualLoRA(rank=17).cost(make_model())
