"""Random numbers by place: SplitMix64 as published, the same in any blocks, different by seed and name, uniform."""

import hashlib

import torch

from workbench.materials.chance import uniform

FULL = (1 << 64) - 1


def published(seed: int, name: str, place: int) -> float:
    """In whole numbers of any length, as the paper's listing has it."""
    start = int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "little")
    mixed = (start + (place + 1) * 0x9E3779B97F4A7C15) & FULL
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & FULL
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & FULL
    return ((mixed ^ (mixed >> 31)) >> 40) / (1 << 24)


def test_it_is_the_published_mixing() -> None:
    assert uniform(7, "model.norm.weight", 1000, (5,)).tolist() == [published(7, "model.norm.weight", place) for place in range(1000, 1005)]


def test_the_blocks_do_not_matter() -> None:
    whole = uniform(0, "a", 0, (10, 7))
    assert torch.equal(whole[3:6], uniform(0, "a", 21, (3, 7)))
    assert whole.dtype == torch.float32


def test_seed_and_name_do() -> None:
    draws = [uniform(seed, name, 0, (100,)) for seed, name in ((0, "a"), (1, "a"), (0, "b"))]
    assert not any(torch.equal(one, other) for one, other in ((draws[0], draws[1]), (draws[0], draws[2]), (draws[1], draws[2])))


def test_it_is_even_and_does_not_remember() -> None:
    drawn = uniform(0, "a", 0, (100_000,)).double()
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = torch.histc(drawn, 50, 0, 1)
    assert ((counts - 2000) ** 2 / 2000).sum() < 90  # χ² of 49 degrees; 85.4 is the 99.9 % point
    centred = drawn - drawn.mean()
    for lag in (1, 2, 64):
        assert abs(float((centred[lag:] * centred[:-lag]).mean() / centred.var())) < 0.015
