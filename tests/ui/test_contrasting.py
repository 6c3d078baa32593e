"""Two selections as a bar and in words: each part by its share, and a way to the rows that only one keeps."""

import re

from workbench.jobs.contrast import Contrast
from workbench.ui.contrasting import found


def test_the_parts_fill_the_bar_and_lead_to_their_rows() -> None:
    shown = found(Contrast(both=[1, 2], only_one=[3], only_other=[4]))
    assert re.findall(r"width:([\d.]+)%", shown) == ["25.00", "50.00", "25.00"]
    assert re.findall(r'data-pick="(\w+)"', shown) == ["there", "here"] and "50% of what either keeps is kept by both" in shown


def test_each_part_is_the_one_that_it_says() -> None:
    shown = found(Contrast(both=[1, 2], only_one=[3, 5, 6], only_other=[4]))
    assert re.findall(r"width:([\d.]+)%", shown) == ["50.00", "33.33", "16.67"]
    assert re.findall(r">([^<>]+): (\d+) rows?", shown) == [("only the one in mind", "3"), ("both", "2"), ("only this one", "1")]


def test_where_nothing_is_kept_by_one_alone_there_is_nothing_to_show() -> None:
    assert "data-pick" not in found(Contrast([1], [], [])) and "100% of what either" in found(Contrast([], [], []))
