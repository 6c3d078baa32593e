"""A cache with room: it holds what transformers' own holds, and what was read stays where it was written."""

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import DynamicCache

from workbench.materials import roomy
from workbench.materials.roomy import RoomyCache


def states(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*shape), torch.randn(*shape)


@pytest.mark.parametrize("room", [1, 4, 100])
def test_it_holds_what_the_cache_of_transformers_holds(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows, is cropped, to nothing too, and loses, doubles and reorders rows."""
    monkeypatch.setattr(roomy, "ROOM", room)
    torch.manual_seed(0)
    ours, theirs, rows = RoomyCache(), DynamicCache(), 3
    turns = [(5, 0, None), (1, 0, None), (1, 2, None), (3, 0, [2, 0]), (1, 0, [1, 0]), (1, 0, None), (4, 14, None), (2, 0, None)]
    for turn, (length, crop, chosen) in enumerate([*turns, (1, 1, [0, 1, 1, 0]), (1, 0, None)]):
        for layer in (0, 1):
            given = states(rows, 2, length, 8)
            for one, other in zip(ours.update(*given, layer), theirs.update(*given, layer), strict=True):
                assert torch.equal(one, other), turn
        for cache in (ours, theirs):
            cache.crop(-min(crop, theirs.get_seq_length()))
            if chosen is not None:
                cache.batch_select_indices(torch.tensor(chosen))
        rows = rows if chosen is None else len(chosen)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_what_was_read_stays_where_it_is_while_there_is_room() -> None:
    cache = RoomyCache()
    first, _ = cache.update(*states(2, 2, 3, 4), 0)
    places = {cache.update(*states(2, 2, 1, 4), 0)[0].data_ptr() for _ in range(roomy.ROOM)}
    assert places == {first.data_ptr()}
    assert cache.update(*states(2, 2, 1, 4), 0)[0].data_ptr() != first.data_ptr()


@torch.no_grad()
def test_a_model_says_the_same_with_either() -> None:
    model, ours, theirs = make_model(), RoomyCache(), DynamicCache()
    for ids in ([7, 8, 9], [10], [11, 12]):
        said = [model(torch.tensor([ids]), past_key_values=cache, use_cache=True).logits for cache in (ours, theirs)]
        assert torch.allclose(*said, atol=1e-6)
