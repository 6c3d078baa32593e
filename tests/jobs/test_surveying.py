"""The map holds every row once, near ones near; the gauges are 1 and equal where all stay, and fall where a part goes."""

import json
from pathlib import Path

import pytest

from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs import surveying
from workbench.jobs.surveying import survey


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    answers = [f"It is {n}." if n % 2 else "The boat is on the lake, and the lake is deep and cold in winter." for n in range(40)]
    path.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": answer}) + "\n" for n, answer in enumerate(answers)))
    return path


def test_all_rows_are_on_the_map_and_like_ones_lie_together(rows: Path, workspace: Workspace, pico_folder: Path) -> None:
    found = drain(survey(DataSpec(path=str(rows)), workspace, str(pico_folder)))
    assert [spot.row for spot in found.spots] == list(range(1, 41)) and all(spot.stays for spot in found.spots) and not found.sampled
    assert found.coverage == 1 and found.depth == found.depth_of_all > 0
    odd, even = ({spot.x > 0 for spot in found.spots if spot.row % 2 == side} for side in (1, 0))
    assert len(odd) == len(even) == 1 and odd != even


def test_where_a_part_goes_coverage_falls_and_depth_is_that_of_what_stays(rows: Path, workspace: Workspace, pico_folder: Path) -> None:
    spec = DataSpec(path=str(rows), selectors=[{"method": "length", "fewest_answer": 20}])
    found = drain(survey(spec, workspace, str(pico_folder)))
    assert [spot.row for spot in found.spots if spot.stays] == list(range(1, 41, 2))
    assert 0 < found.coverage < 1 and found.depth > found.depth_of_all  # the long answers stay


def test_of_many_rows_some_are_drawn_evenly(rows: Path, workspace: Workspace, pico_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveying, "MOST", 15)
    found = drain(survey(DataSpec(path=str(rows)), workspace, str(pico_folder)))
    assert found.sampled and [spot.row for spot in found.spots] == list(range(1, 41, 3))
