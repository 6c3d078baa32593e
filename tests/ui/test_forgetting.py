"""The figure of what was forgotten: a dot for each run, and the line that its sentences tell of, as far as there are runs."""

import pytest

from workbench.jobs.forgetting import Account, Measured
from workbench.materials.forgetting_law import Tuned, line
from workbench.ui.forgetting import figure


def test_the_line_is_drawn_from_the_first_run_to_the_last() -> None:
    points = [Tuned(100, 10, 1 + 0.1 * place, 3 - 0.2 * place + 0.01 * (place % 2)) for place in range(8)]
    runs = [Measured(f"{place:04}", {"adapter": {"method": "lora" if place % 2 else "dora"}}, point) for place, point in enumerate(points)]
    drawn = figure(Account("pocket on rows", runs, line(points), None))
    *dots, through = drawn.data
    assert [(dot.name, dot.mode, len(dot.x)) for dot in dots] == [("dora", "markers", 4), ("lora", "markers", 4)]
    assert through.mode == "lines" and list(through.x) == [points[0].loss, points[-1].loss]
    slope = (through.y[1] - through.y[0]) / (through.x[1] - through.x[0])
    assert slope == pytest.approx(-line(points).slope) and through.y[0] == pytest.approx(3, abs=0.02) and drawn.layout.showlegend
