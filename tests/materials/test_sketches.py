"""What is done with gradients: sketches keep inner products, rows of a warm-up are drawn by what they say, the best goal is found."""

import math

import pytest
import torch

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials import gradients
from workbench.materials.gradients import WIDTH, Sketch, drawn, nearest, there
from workbench.materials.rows import Example

DRAW = torch.Generator().manual_seed(0)


def test_sketches_keep_inner_products() -> None:
    """Off by 1/√WIDTH of the lengths or so, on average by nothing, whatever the angle, and where few numbers hold all."""
    g = torch.randn(40, 30_000, generator=DRAW)
    h = torch.cat([g[:20] + 0.5 * torch.randn(20, 30_000, generator=DRAW), torch.randn(20, 30_000, generator=DRAW)])
    g[:, 0] *= 100  # one number holds a quarter of the square
    h[:, 0] *= 100
    sketch, lengths = Sketch(30_000, 1), g.norm(dim=1) * h.norm(dim=1)
    off = ((sketch(g) * sketch(h)).sum(1) - (g * h).sum(1)) / lengths
    assert sketch(g).shape == (40, WIDTH) and off.abs().max() < 3 / math.sqrt(WIDTH) and off.abs().max() > 0.1 / math.sqrt(WIDTH)
    many = torch.stack([(Sketch(30_000, seed)(g[:1]) * Sketch(30_000, seed)(h[:1])).sum() for seed in range(60)]) / lengths[0]
    exact = float((g[0] * h[0]).sum() / lengths[0])
    assert abs(float(many.mean()) - exact) < 0.4 / math.sqrt(WIDTH) and float(many.std()) < 2 / math.sqrt(WIDTH)


def test_numbers_at_even_distances_do_not_fall_together() -> None:
    """Gradients are matrices in a row, and what is large in one line of one is large in the next."""
    g = torch.zeros(10, 100 * WIDTH)
    g[:, ::WIDTH] = torch.randn(10, 100, generator=DRAW)
    sketch, lengths = Sketch(100 * WIDTH, 0), g.norm(dim=1)
    off = (sketch(g) @ sketch(g).T - g @ g.T) / lengths / lengths[:, None]
    assert off.abs().max() < 3 / math.sqrt(WIDTH)


def test_few_numbers_are_kept_as_they_are() -> None:
    few = torch.randn(3, 700, generator=DRAW)
    found = Sketch(700, 0)(few)
    assert torch.allclose(found @ found.T, few @ few.T, rtol=1e-4, atol=1e-4) and (found != 0).sum() == 3 * 700


def test_a_sketch_is_linear_and_hangs_on_its_seed() -> None:
    g, h = torch.randn(2, 2, 5000, generator=DRAW)
    assert torch.allclose(Sketch(5000, 0)(g + 2 * h), Sketch(5000, 0)(g) + 2 * Sketch(5000, 0)(h), atol=1e-4)
    assert torch.equal(Sketch(5000, 0)(g), Sketch(5000, 0)(g)) and not torch.equal(Sketch(5000, 0)(g), Sketch(5000, 1)(g))


def rows(count: int) -> list[Example]:
    return [Example(text=f"row {place}") for place in range(count)]


def test_a_twentieth_is_drawn_and_neither_too_few_nor_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(drain(drawn(rows(count), 0))) for count in (0, 1, 20, 200)] == [0, 1, 20, 32]
    assert 400 < len(drain(drawn(rows(10_000), 0))) < 600
    monkeypatch.setattr(gradients, "SHARE", 0.9)
    assert len(drain(drawn(rows(2000), 0))) == 1024 and len(drain(drawn(rows(2000), 0, 7, 7))) == 7


def test_the_draw_goes_by_what_rows_say() -> None:
    """Order and copies do not matter; a row that was not drawn may go, and one that comes moves one at most."""
    pool = rows(300)
    found = drain(drawn(pool, 3))
    assert drain(drawn(pool[::-1], 3)) == found == drain(drawn([*pool, *pool], 3)) and drain(drawn(pool, 4)) != found
    left = [row for row in pool if row in found or int(row.text[4:]) % 2]
    assert drain(drawn(left, 3)) == found
    after = drain(drawn([*pool, Example(text="new")], 3))
    assert len(set(map(repr, found)) - set(map(repr, after))) <= 1
    marked = [Example(text=row.text, source="file", line=7, meta={"a": 1}) for row in pool]
    assert [row.text for row in drain(drawn(marked, 3))] == [row.text for row in found]
    assert gradients.key(drain(drawn(marked, 3)), 3) == gradients.key(found, 3) != gradients.key(found, 4)
    assert gradients.key(found[::-1], 3) != gradients.key(found, 3), "they are learnt in this order"


def test_the_nearest_goal_is_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    some, goals = torch.randn(50, 8, generator=DRAW).bfloat16(), torch.randn(3, 8, generator=DRAW)
    some[7] = math.nan
    products = some.float() @ goals.T
    monkeypatch.setattr(gradients, "COMPARED", 16)
    for unit in (False, True):
        best, which = drain(nearest(some, goals, unit))
        expected = products / some.float().norm(dim=1, keepdim=True) if unit else products
        assert torch.allclose(best, expected.max(1).values, equal_nan=True) and best.isnan().nonzero().tolist() == [[7]]
        there_is = ~best.isnan()
        assert torch.equal(which[there_is], expected.max(1).indices[there_is])
    assert [len(found) for found in drain(nearest(torch.empty(0, 1), goals, True))] == [0, 0]
    assert len(list(nearest(some, goals, unit=True))) == 4


def test_a_target_without_gradients_is_a_sentence() -> None:
    some = torch.ones(4, 4)
    some[1], some[3, 0] = math.nan, math.inf
    assert there(some).tolist() == [0, 2]
    for none in (some[1:2], torch.empty(0, 1)):
        with pytest.raises(WorkbenchError, match=r"^Nothing is learnt of any row of the target.* answers\.$"):
            there(none)
