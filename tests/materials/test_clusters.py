"""k-means on the sphere: planted groups are found, each row is of its nearest centre, and a round never makes it worse."""

import itertools

import pytest
import torch
from torch import Tensor

from workbench.core.job import drain
from workbench.materials import clusters
from workbench.materials.clusters import spherical


def around(centres: Tensor, each: int, wide: float, seed: int = 0) -> Tensor:
    noise = torch.randn(len(centres) * each, centres.shape[1], generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(centres.repeat_interleave(each, 0) + wide * noise, dim=-1)


ROWS = around(torch.eye(6), 30, 0.4)


def test_planted_groups_are_found() -> None:
    rows = around(torch.eye(3), 20, 0.05)
    for seed in range(20):  # from one row of each group all of it is found
        centres, cluster, near = drain(spherical(rows, 3, seed))
        if len(cluster[::20].unique()) == 3:
            break
    assert torch.equal(cluster, cluster[::20].repeat_interleave(20)) and near.min() > 0.9
    means = torch.stack([rows[cluster == group].mean(0) for group in range(3)])
    assert torch.allclose(centres, torch.nn.functional.normalize(means, dim=-1), atol=1e-5)


def test_each_row_is_of_its_nearest_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drain(spherical(ROWS, 9, 0))
    monkeypatch.setattr(clusters, "WORK", 9 * 6 * 7)  # seven rows at once
    centres, cluster, near = drain(spherical(ROWS, 9, 0))
    assert torch.equal(cluster, (ROWS @ centres.T).argmax(1)) and torch.allclose(near, (ROWS @ centres.T).amax(1))
    assert torch.allclose(centres.norm(dim=-1), torch.ones(9)) and torch.equal(cluster, whole[1])


def test_a_round_never_makes_it_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    means = []
    for rounds in range(1, 8):
        monkeypatch.setattr(clusters, "ROUNDS", rounds)
        means.append(drain(spherical(ROWS, 9, 3))[2].mean().item())
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(means)) and means[-1] > means[0]


def test_the_seed_fixes_it_and_copies_do_no_harm() -> None:
    first, again, other = (drain(spherical(ROWS, 9, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True)) and not torch.equal(first[0], other[0])
    centres, cluster, near = drain(spherical(ROWS[:1].repeat(7, 1), 3, 0))
    assert torch.isfinite(centres).all() and len(cluster.unique()) == 1 and torch.allclose(near, torch.ones(7))
    assert drain(spherical(ROWS[:1], 1, 0))[1].tolist() == [0]
