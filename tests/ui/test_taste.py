"""What a merge does, as it is shown: scores in their cells, the picture by the numbers there are, answers with their marks."""

import html
import json
import re
from dataclasses import replace

import pytest

from workbench.core.events import Table
from workbench.jobs.scoring import Question, Score, Task
from workbench.jobs.searching import Search, Try
from workbench.jobs.tasted import BASE, MERGED, Tasted
from workbench.ui import taste

EVIL = "<script>alert(1)</script>${x}"
ROWS = [["embed", None, None, "embed", 0.2, 1.0], *([f"l{layer}", layer, layer / 2, "up", 0.2 + 0.4 * layer, 1.0] for layer in range(3))]
TABLE = Table("layers", ["tensor", "layer", "depth", "module", "scale", "norm"], ROWS)


@pytest.fixture
def tasted() -> Tasted:
    task = Task("doubles", {}, [Question("double: sun", [1], "sun sun.")])
    scores = {BASE: [Score(4.0, 0.0)], "run 1": [Score(0.1, 1.0)], MERGED: [Score(0.3)]}
    path = [(0.0, [4.0]), (0.5, [1.0]), (1.0, [0.3])]
    places = {BASE: (0.0, 0.0), "run 1": (0.1, 0.0), MERGED: (0.05, 0.0)}
    return Tasted([task], scores, path, {BASE: [["sun"]], "run 1": [["Sun sun."]]}, places, [], TABLE)


def cells(drawn: str) -> list[str]:
    return [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<td.*?</td>", drawn)]


def test_scores_stand_by_task_and_model_with_their_mean(tasted: Tasted) -> None:
    drawn = taste.scores(tasted)
    assert cells(drawn) == [["0%", "4"], ["100%", "0.1"], ["…", "0.3"]] * 2
    assert 'style="--right:100%"' in drawn and drawn.count('class="merged"') == 3


def test_the_mean_is_over_tasks(tasted: Tasted) -> None:
    other = Task("ends", {}, [])
    more = {name: [*of, Score(2.0, 0.5)] for name, of in tasted.scores.items()}
    drawn = taste.scores(replace(tasted, tasks=[*tasted.tasks, other], scores=more))
    assert cells(drawn)[-3:] == [["25%", "3"], ["75%", "1.05"], ["50%", "1.15"]]


def test_the_merged_model_is_waited_for_and_then_marked(tasted: Tasted) -> None:
    waiting = taste.answers(tasted)
    assert "is answering" in waiting and "✓" not in waiting
    there = taste.answers(replace(tasted, said={**tasted.said, MERGED: [["sun sun."]]}))
    assert "is answering" not in there and there.count("✓") == 1 and "run 1" not in there, "the base and the merge stand beside each other"


def test_what_is_known_so_far_is_said_to_be_so_far(tasted: Tasted) -> None:
    assert "rows so far" not in taste.scores(replace(tasted, rows=(8, 8)))
    assert "2 of 8 rows so far" in taste.scores(replace(tasted, rows=(2, 8)))
    half = replace(tasted, said={**tasted.said, MERGED: [["sun"]]}, growing=frozenset({MERGED}))
    drawn = taste.answers(half)
    assert "is answering" in drawn and drawn.count("not what should be said") == 1, "what is not whole is neither right nor wrong"
    empty = taste.answers(replace(half, said={**tasted.said, MERGED: [[""]]}))
    assert "(nothing)" not in empty


def test_a_curve_over_depth_has_handles_where_there_are_widgets_for_them() -> None:
    assert "data-handle" not in taste.picture(TABLE)
    drawn = taste.picture(TABLE, ("merge-x-alpha", "merge-x-beta"))
    assert re.findall(r'data-handle="(.*?)" data-less="(.*?)"', drawn) == [("merge-x-alpha", ""), ("merge-x-beta", "merge-x-alpha")]
    assert re.findall(r'aria-valuenow="(.*?)"', drawn) == ["0.2", "1"]


def test_numbers_of_one_unit_share_a_picture_and_others_have_their_own() -> None:
    stock = Table(
        "layers", ["tensor", "layer", "depth", "module", "angle", "ratio"], [["a", 0, 0.0, "up", 80.0, 0.3], ["b", 1, 1.0, "up", 70.0, 0.4]]
    )
    assert taste.picture(stock).count("<svg") == 2
    ties = Table("layers", ["tensor", "layer", "depth", "module", "scale", "kept", "agree"], [["a", 0, 0.0, "up", 1.0, 0.3, 0.9]])
    assert taste.picture(ties).count("<svg") == 2 and "numbers that are changed" in taste.picture(ties)
    names = ["neurons near", "neurons cut", "heads near", "heads cut", "neurons anew", "heads anew"]
    fused = taste.picture(Table("layers", ["tensor", "layer", "depth", "module", *names], [["a", 0, 0.0, "block", *[0.1] * 6]]))
    assert fused.count("<svg") == 3 and "distance of heads over their norm" in fused and fused.count("the farthest that are averaged") == 4
    names = ["outside 1", "outside 2", "outside 3", "flagged"]
    strangers = taste.picture(Table("layers", ["tensor", "layer", "depth", "module", *names], [["a", 0, 0.0, "up", 0.1, 0.9, 0.1, 1.0]]))
    assert strangers.count("<svg") == 2 and strangers.count("share of the change outside the group") == 2
    assert all(f"</i>model {number}<" in strangers for number in (1, 2, 3)) and "models outside" in strangers
    assert "nothing to show" in taste.picture(Table("layers", ["tensor", "layer", "depth", "module"], []))


def test_the_way_and_the_places_are_drawn(tasted: Tasted) -> None:
    assert taste.way(tasted).count("<circle") == 3 and "merged" in taste.way(tasted)
    assert taste.where(tasted).count("<svg") == 1
    assert taste.where(replace(tasted, cosines=[(0, 0.1), (1, -0.2)])).count("<svg") == 2


def test_foreign_words_are_escaped(tasted: Tasted) -> None:
    task = Task(EVIL, {}, [Question(EVIL, [1], EVIL)])
    evil = replace(
        tasted, tasks=[task], scores={EVIL: [Score(1.0, 0.0)]}, said={MERGED: [[EVIL]], BASE: [[EVIL]]}, places={BASE: (0, 0), EVIL: (1, 0)}
    )
    for drawn in (taste.scores(evil), taste.answers(evil), taste.way(evil), taste.where(evil)):
        assert "<script>" not in drawn and "${" not in drawn


def test_a_search_names_its_best_and_a_button_types_it_into_the_form() -> None:
    tries = [Try({"scale": 0.2}, 1.0, 0.5, 0.75), Try({"scale": 0.4}, 0.1, 0.6, 0.35), Try({"scale": 0.6}, 0.2, 0.9, 0.55)]
    drawn = taste.searched(Search(9, tries), "ties")
    assert "3 of at most 9 tried" in drawn and "0.35 nats a token at scale 0.4" in drawn
    fill = re.search(r'data-fill="(.*?)"', drawn)
    assert fill and json.loads(html.unescape(fill[1])) == {"merge-ties-scale": 0.4}
    assert drawn.count("<circle") == 3 + 2, "all tries, and the two that nothing beats"
    feet = [float(foot) for foot in re.findall(r'y="211" text-anchor="middle">(.*?)<', drawn)]
    assert feet == [0.5, 1.0], "losses, and not their logarithms"


def test_a_search_draws_losses_of_nothing_too() -> None:
    assert "<svg" in taste.searched(Search(2, [Try({"scale": 0.2}, 0.0, 0.0, 0.0)]), "ties")


def test_without_rows_to_score_on_it_says_so(tasted: Tasted) -> None:
    bare = replace(tasted, tasks=[], scores={name: [] for name in tasted.scores}, path=[(0.0, []), (1.0, [])], said={BASE: [], MERGED: []})
    assert "no rows to score on" in taste.scores(bare) and "<svg" not in taste.way(bare) and taste.answers(bare)
