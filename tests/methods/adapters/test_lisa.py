"""LISA: so many blocks at a time, each as often as another, and what lies outside the blocks always."""

from collections import Counter

from pico import make_model

from workbench.methods.adapters.lisa import LISA


def blocks(attachment: object) -> set[int]:
    return {int(name.split(".")[2]) for name, _ in attachment.trained() if ".layers." in name}


def test_so_many_blocks_move_whole_with_what_lies_outside() -> None:
    model = make_model(num_hidden_layers=5)
    attachment = LISA(blocks=2).attach(model, seed=0)
    assert len(blocks(attachment)) == 2
    names = {name for name, _ in attachment.trained()}
    wanted = {name for name, _ in model.named_parameters() if ".layers." not in name or int(name.split(".")[2]) in blocks(attachment)}
    assert names == wanted and len(names) == 2 + 2 * 9


def test_over_many_turns_each_block_moves_as_often_as_another() -> None:
    attachment = LISA(blocks=2, every=3).attach(make_model(num_hidden_layers=5, hidden_size=8, intermediate_size=8), seed=0)
    seen = Counter[int]()
    for turn in range(1, 401):
        before = blocks(attachment)
        attachment.redraw(3 * turn)
        assert blocks(attachment) == before, "a turn is three steps"
        attachment.redraw(3 * turn + 1)
        seen.update(blocks(attachment))
    assert set(seen) == set(range(5)) and all(abs(count - 160) < 50 for count in seen.values())  # five standard deviations


def test_more_blocks_than_there_are_is_all_of_them() -> None:
    assert blocks(LISA(blocks=40).attach(make_model(), seed=0)) == {0, 1, 2}


def test_the_optimizer_holds_what_moves_and_the_disk_what_has_moved() -> None:
    cost = LISA(blocks=1).cost(make_model())
    outside = sum(parameter.numel() for name, parameter in make_model().named_parameters() if ".layers." not in name)
    assert cost.trained == outside + (cost.total - outside) // 3 and cost.moved == cost.total


def test_the_seed_draws_them() -> None:
    drawn = [blocks(LISA(blocks=2).attach(make_model(num_hidden_layers=5), seed=seed)) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1] and len({frozenset(own) for own in drawn}) > 1
