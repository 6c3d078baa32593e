"""HFT: half of each kind of modules in each block, drawn by the seed."""

import pytest
from pico import make_model

from workbench.materials.whole import WholeAttachment
from workbench.methods.adapters.hft import HFT


def moving(attachment: WholeAttachment) -> dict[int, dict[str, int]]:
    """How many modules of each kind move in each block."""
    counts: dict[int, dict[str, int]] = {layer: {"self_attn": 0, "mlp": 0, "layernorm": 0} for layer in range(6)}
    for name, _ in attachment.trained():
        for kind in counts[0]:
            if name.startswith("model.layers.") and kind in name:
                counts[int(name.split(".")[2])][kind] += 1
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_half_of_each_kind_moves_in_each_block(seed: int) -> None:
    attachment = HFT().attach(make_model(num_hidden_layers=6), seed)
    counts = moving(attachment)
    assert all(own["self_attn"] == 2 and own["layernorm"] == 1 for own in counts.values())
    assert sorted(own["mlp"] for own in counts.values()) == [1, 1, 1, 2, 2, 2]
    names = {name for name, _ in attachment.trained()}
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= names


def test_half_of_the_blocks_numbers_move_where_matrices_are_alike() -> None:
    shape = {"num_key_value_heads": 4, "intermediate_size": 32, "num_hidden_layers": 6}
    model = make_model(**shape)
    blocks = sum(parameter.numel() for name, parameter in model.named_parameters() if ".layers." in name)
    attachment = HFT().attach(model, seed=3)
    assert 2 * sum(parameter.numel() for name, parameter in attachment.trained() if ".layers." in name) == blocks


def test_another_seed_or_another_turn_is_another_half() -> None:
    def names(attachment: WholeAttachment) -> list[str]:
        return [name for name, _ in attachment.trained()]

    first = HFT(every=2).attach(make_model(), seed=0)
    before = names(first)
    assert names(HFT().attach(make_model(), seed=0)) == before != names(HFT().attach(make_model(), seed=1))
    first.redraw(2)
    assert names(first) == before
    first.redraw(3)
    assert names(first) != before
    still = HFT().attach(make_model(), seed=0)
    still.redraw(3)
    assert names(still) == before
    assert still.moving() == {} and HFT().costs() == "" and set(first.moving()) == {0, 1, 2} and "all modules" in HFT(every=2).costs()
    assert HFT(every=2).cost(make_model()).moved == HFT().cost(make_model()).total > HFT().cost(make_model()).moved
