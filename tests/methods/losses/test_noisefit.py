"""NoiseFiT (arXiv:2504.03302): the three readings, who teaches whom, the size of the noise, and the blocks that get it."""

import math

import pytest
import torch
from torch import Tensor

from tests.pico import make_model
from workbench.materials.models import blocks, label_table
from workbench.methods.losses.noisefit import NoiseFiT, Noisy, noise_size


def table(seed: int, rows: int = 3) -> Tensor:
    return torch.randn(rows, 11, generator=torch.Generator().manual_seed(seed), dtype=torch.double).log_softmax(-1)


def batch() -> dict[str, Tensor]:
    ids = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
    rows = torch.tensor([[0] * 5, [1, 1, 1, -1, -1]])
    labels = torch.where(rows >= 0, ids, -100)
    return {"input_ids": ids, "attention_mask": (rows >= 0).long(), "labels": labels, "rows": rows}


def read(loss: NoiseFiT, seed: int = 0) -> tuple[list[Tensor], Noisy]:
    """The plain and the noisy tables of the batch on a small model."""
    model, given = make_model().eval(), batch()
    further = loss.further(model, given)
    with further.watching():
        tables = [label_table(model, given)]
    for reading in further.readings(torch.Generator().manual_seed(seed)):
        with reading:
            tables.append(label_table(model, given))
    assert torch.equal(label_table(model, given), tables[0]), "the hooks are gone"
    return tables, further


def test_what_is_added_is_the_three_divergences_worked_by_hand() -> None:
    plain, first, second = table(0), table(1), table(2)
    heat = 2.0
    soft = [(logits / heat).softmax(-1) for logits in (plain, first, second)]

    def apart(of: Tensor, to: Tensor) -> Tensor:
        return (of * (of / to).log()).sum(-1)

    expected = heat**2 * (0.35 * (apart(soft[0], soft[1]) + apart(soft[0], soft[2])) + 0.2 * apart(soft[2], soft[1]))
    method = NoiseFiT(alpha=0.3, consistency=0.2, temperature=heat)
    assert torch.allclose(method.difference(plain, [first, second]), expected)


def test_teachers_get_no_gradient() -> None:
    plain, first, second = (table(seed).requires_grad_() for seed in range(3))
    NoiseFiT(alpha=0.5, consistency=0.0).difference(plain, [first, second]).sum().backward()
    assert plain.grad is None and first.grad is not None and second.grad is not None
    first, second = (table(seed).requires_grad_() for seed in (1, 2))
    NoiseFiT(alpha=1.0, consistency=0.1).difference(table(0), [first, second]).sum().backward()
    assert first.grad.abs().sum() > 0 and (second.grad is None or not second.grad.any())


def test_without_noise_nothing_is_added_and_with_it_something_is() -> None:
    silent, _ = read(NoiseFiT(strength=0.0))
    assert torch.allclose(NoiseFiT().difference(silent[0], silent[1:]), torch.zeros(6), atol=1e-6)
    loud, _ = read(NoiseFiT(strength=3.0))
    assert (NoiseFiT().difference(loud[0], loud[1:]) > 1e-6).all()
    assert not torch.equal(loud[1], loud[2]), "the two readings have noise of their own"
    assert torch.equal(read(NoiseFiT(strength=3.0))[0][1], loud[1]), "and the same noise for the same seed"


def test_only_a_loss_that_uses_the_readings_pays_for_them() -> None:
    model = make_model()
    assert NoiseFiT(alpha=1.0, consistency=0.0).further(model, batch()) is None
    assert NoiseFiT(alpha=1.0, consistency=0.1).further(model, batch()) is not None
    assert "three times" in NoiseFiT().costs() and "three times" not in NoiseFiT(alpha=1.0, consistency=0.0).costs()


def test_the_size_of_the_noise_by_hand() -> None:
    """Median 2, distances 2 1 0 1 8, so MAD 1; the variance is 15.7 and with that as the mean the fold is e."""
    hidden = torch.tensor([[0.0, 1.0, 2.0, 3.0, 10.0]])
    assert hidden.var().item() == pytest.approx(15.7)
    expected = [math.e * math.exp(-0.1 * away) for away in (2, 1, 0, 1, 8)]
    assert noise_size(hidden, torch.tensor(15.7))[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert noise_size(hidden, torch.tensor(1.0))[0, 2].item() == pytest.approx(5.0), "an unusual token has at most five times"
    assert noise_size(torch.ones(2, 5), torch.tensor(1.0)).tolist() == [[0.0] * 5] * 2


def test_noise_goes_to_the_blocks_of_the_best_ratio_and_not_to_padding() -> None:
    model, given = make_model().eval(), batch()
    found = blocks(model)
    for calmest, chosen in ((True, found[-1]), (False, found[0])):
        noisy = NoiseFiT(layers=1, calmest=calmest).further(model, given)
        noisy.ratios = {block: float(number) for number, block in enumerate(found)}
        assert noisy.chosen() == [chosen]
    _, noisy = read(NoiseFiT(layers=1))
    hidden = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    moved = noisy._noised((hidden, "cache"), torch.Generator().manual_seed(0))
    assert moved[1] == "cache" and torch.equal(moved[0][1, 3:], hidden[1, 3:]) and (moved[0] != hidden)[given["rows"] >= 0].all()


def test_the_ratio_is_measured_where_tokens_are() -> None:
    _, noisy = read(NoiseFiT())
    assert len(noisy.ratios) == len(noisy.blocks) and all(math.isfinite(ratio) and ratio > 0 for ratio in noisy.ratios.values())


def test_noise_has_no_bias() -> None:
    noisy = NoiseFiT(strength=2.0).further(make_model(), batch())
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)).mul(2)
    generator = torch.Generator().manual_seed(1)
    drawn = torch.stack([noisy._noised(hidden, generator) - hidden for _ in range(400)])[:, batch()["rows"] >= 0]
    deviation = drawn.std(0) / math.sqrt(400)
    assert ((drawn.mean(0).abs() / deviation) < 5).all() and deviation.min() > 0
