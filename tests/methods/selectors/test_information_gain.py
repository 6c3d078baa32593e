"""Information gain: read rows are ranked by a step of one length, the others by their words, and what words cannot tell is a sentence."""

import math
import random

import pytest
import torch
from surroundings import Given, Hearing

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.rows import Example, Selection
from workbench.methods.selectors.information_gain import InformationGain

TARGET = Example(text="the target")
DRAW = random.Random(0)


def chosen(gains: dict[str, float], **knobs: object) -> Selection:
    """Rows that say the keys; the gradient of each leans towards the target's as far as the value says, and is of any length."""
    given = {"the target": [2.0, 0.0]}
    for text, gain in gains.items():
        length = DRAW.uniform(0.1, 9)
        given[text] = [length * gain, length * math.sqrt(1 - gain**2)]
    around = Given(sets={"exam": [TARGET]}, gradients=given)
    return drain(InformationGain(target="exam", **knobs).keep([Example(text=text) for text in gains], around))


def many(count: int, known: bool) -> dict[str, float]:
    """Rows with the word `up` gain and those with `down` lose, or nothing tells which."""
    found = dict[str, float]()
    for place in range(count):
        gain = DRAW.uniform(-0.9, 0.9)
        word = "up" if gain > 0 else "down"
        words = [word if known else DRAW.choice(["up", "down"]), *(f"w{DRAW.randrange(50)}" for _ in range(4)), f"n{place}"]
        found[" ".join(words)] = gain
    return found


def test_few_rows_are_read_and_ranked_by_a_step_of_one_length() -> None:
    found = chosen({"a": 0.5, "b": -0.2, "c": 0.9, "d": 0.1}, share=0.5)
    assert found.kept == [True, False, True, False] and found.scores == pytest.approx([1.0, -0.4, 1.8, 0.2], abs=1e-5)
    assert found.reasons == {1: "gain on exam: -0.4; the 2 highest stay", 3: "gain on exam: 0.2; the 2 highest stay"}
    assert found.what == "gain on exam" and found.cuts == pytest.approx((0.6,))


def test_a_sample_is_read_and_the_others_are_foretold() -> None:
    gains = many(600, known=True)
    found, real = chosen(gains, sample=200, share=0.4), torch.tensor(list(gains.values()))
    assert found.what.startswith("gain on exam, foretold with a correlation of 0.") and sum(found.kept) == 240
    assert all(("up" in text.split()) for text, kept in zip(gains, found.kept, strict=True) if kept)
    assert torch.corrcoef(torch.stack([torch.tensor(found.scores), 2 * real]))[0, 1] > 0.7
    assert chosen(gains, sample=0, share=0.4).what == chosen(gains, sample=600, share=0.4).what == "gain on exam"


def test_the_estimate_counts_the_rows_that_are_read() -> None:
    assert [InformationGain(sample=sample).seen(600) for sample in (200, 600, 1000, 0)] == [200, 600, 600, 600]


def test_the_model_reads_the_sample_and_no_other_row() -> None:
    class Counting(Hearing):
        asked: list[int] = []

        def gradients(self, examples, *more, **named):
            self.asked.append(len(examples))
            return super().gradients(examples, *more, **named)

    rows = [Example(text=text) for text in many(300, known=True)]
    around = Counting({"exam": rows[:2]})
    with pytest.raises(WorkbenchError):  # made-up gradients have nothing to do with words
        drain(InformationGain(target="exam", model="base", sample=100, seed=3).keep(rows, around))
    assert around.asked == [2, 100] and around.gradients_of == [("base", 0, False, 3)] * 2


def test_what_words_cannot_tell_is_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match=r"^What rows say does not foretell their gain: over the 200 .* with a sample of 0\.$"):
        chosen(many(600, known=False), sample=200)
    with pytest.raises(WorkbenchError, match="a correlation of no number"):
        chosen({"a": 0.5, "b": 0.1}, sample=1)


def test_rows_without_a_gradient_go_and_teach_nothing() -> None:
    assert chosen({"a": 0.5, "b": math.nan}, share=1).reasons == {1: "gain on exam: there is none"}
    gains = {text: math.nan if place % 7 == 0 else gain for place, (text, gain) in enumerate(many(600, known=True).items())} | {"": 0.5}
    found = chosen(gains, sample=300, share=0.4)
    assert [place for place, score in enumerate(found.scores) if math.isnan(score)] == [600] and not found.kept[600], "it has no words"


def test_no_rows_one_row_and_no_target() -> None:
    assert chosen({}).kept == [] and chosen({"a": -0.5}).kept == [True]
    with pytest.raises(WorkbenchError, match="needs a second data set"):
        drain(InformationGain().keep([Example(text="a")], Given(sets={})))
    with pytest.raises(WorkbenchError, match=r"^Nothing is learnt of any row of the target"):
        drain(InformationGain(target="e").keep([Example(text="a")], Given(sets={"e": [TARGET]}, gradients={TARGET.text: [math.nan]})))
    assert InformationGain(model="base").reader() == "base" and InformationGain(target="e").others() == ["e"]
