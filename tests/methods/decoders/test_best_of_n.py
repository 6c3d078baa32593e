"""Best of N: the answer is one of those that were drawn, and the one that its score says."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from workbench.methods.contracts import Speaker
from workbench.methods.decoders.best_of_n import BestOfN

END = 0


class Walk(Speaker):
    """Expects after each token what its row says; the answer ends with token 0."""

    def __init__(self, rows: Sequence[Sequence[float]], most: float = 100):
        self.rows, self.most, self.asked = torch.tensor(rows), most, list[int]()

    def logits(self, tokens: Sequence[int]) -> Tensor:
        self.asked.append(len(tokens))
        return self.rows[tokens[-1]].log()

    def anew(self) -> "Walk":
        return Walk(self.rows.tolist(), self.most)

    def texts(self, tokens: Sequence[int]) -> list[str]:
        return [str(token) for token in tokens]

    def lent(self, other: Speaker, named: Callable[[str], bool]) -> Iterator[None]:  # type: ignore[override]
        raise NotImplementedError

    def end(self) -> int:
        return END

    def reads(self) -> float:
        return self.most


OWN = [[1, 0, 0, 0], [0.2, 0.4, 0.3, 0.1], [0.3, 0.3, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4]]
BASE = [[1, 0, 0, 0], [0.4, 0.2, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4], [0.2, 0.4, 0.3, 0.1]]


def spoken(how: BestOfN, own: Walk, base: Walk, prompt: Sequence[int] = (1, 2)) -> list[int]:
    """What is said with certainty, until the end mark or a place where another token could follow."""
    says, answer = how.begin(own, base), list[int]()
    while not answer or answer[-1] != END:
        shares = says.logits([*prompt, *answer]).softmax(-1)
        if shares.max() < 1:
            return answer
        answer.append(int(shares.argmax()))
    return answer


def mean(voice: Walk, answer: Sequence[int], prompt: Sequence[int] = (1, 2)) -> float:
    tokens = [*prompt, *answer]
    return sum(float(voice.rows[a, b].log()) for a, b in zip(tokens[len(prompt) - 1 :], tokens[len(prompt) :], strict=False)) / len(answer)


SCORES: dict[str, Callable[[Sequence[int]], float]] = {
    "likely to itself": lambda answer: mean(Walk(OWN), answer),
    "likely to the base": lambda answer: mean(Walk(BASE), answer),
    "what tuning added": lambda answer: mean(Walk(OWN), answer) - mean(Walk(BASE), answer),
}


@pytest.mark.parametrize("by", SCORES)
def test_it_says_the_best_of_what_the_seeds_draw(by: str) -> None:
    """What each seed draws is seen by asking for two, of which the second is drawn with the seed of interest."""
    alone = {seed: spoken(BestOfN(answers=2, by=by, draw_seed=seed), Walk(OWN), Walk(BASE)) for seed in range(8)}  # type: ignore[arg-type]
    best = spoken(BestOfN(answers=9, by=by), Walk(OWN), Walk(BASE))  # type: ignore[arg-type]
    score = SCORES[by]
    assert score(best) == pytest.approx(max(map(score, alone.values()))) and best in alone.values()
    assert len({tuple(answer) for answer in alone.values()}) > 2, "seeds draw different answers"


def test_more_answers_are_never_worse_and_the_same_seed_says_the_same() -> None:
    scores = [SCORES["likely to the base"](spoken(BestOfN(answers=number), Walk(OWN), Walk(BASE))) for number in (2, 4, 16, 64)]
    assert scores == sorted(scores) and scores[0] < scores[-1]
    assert spoken(BestOfN(), Walk(OWN), Walk(BASE)) == spoken(BestOfN(), Walk(OWN), Walk(BASE))


def test_drawn_cold_it_is_the_likeliest_answer() -> None:
    assert spoken(BestOfN(answers=2, heat=0.001, longest=5), Walk([[1, 0], [0.4, 0.6]]), Walk([[1, 0], [0.5, 0.5]]), [1]) == [1] * 5


def test_it_ends_where_it_is_cut_and_where_the_model_reads_no_further() -> None:
    forever, base = [[1, 0], [1e-4, 1 - 1e-4]], [[1, 0], [0.5, 0.5]]
    assert len(spoken(BestOfN(longest=7), Walk(forever), Walk(base), [1])) == 7
    assert len(spoken(BestOfN(longest=7), Walk(forever, most=6), Walk(base), [1, 1])) == 4
    own = Walk(forever)
    says = BestOfN(answers=2, longest=2).begin(own, Walk(base))
    says.logits([1])
    assert torch.allclose(says.logits([1, 1, 1]), own.rows[1].log()), "then it goes on by itself"


def test_the_voices_that_were_given_hear_nothing_of_the_draws() -> None:
    own, base = Walk(OWN), Walk(BASE)
    BestOfN().begin(own, base).logits([1, 2])
    assert own.asked == [2] and base.asked == []
    assert BestOfN(answers=1).begin(own, base) is own and "8 answers" in BestOfN().costs()
