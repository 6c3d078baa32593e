"""Best of N: the answer is one of those that were drawn, and the one that its score says."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.materials.choir import Choir
from workbench.materials.differing import between
from workbench.materials.speakers import ModelVoice, Singer
from workbench.methods.contracts import Speaker
from workbench.methods.decoders import best_of_n
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


# In one batch.


def tuned(seed: int = 1) -> tuple[torch.nn.Module, torch.nn.Module]:
    base, near = make_model(0), make_model(0)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in near.model.layers[1].parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return base, near


@torch.no_grad()
@pytest.mark.parametrize("by", SCORES)
def test_in_one_batch_each_seed_draws_what_it_draws_by_itself(by: str, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    """By hand: one answer after the other, by two models with a cache each, as the docstring has it."""
    how, prompt = BestOfN(answers=7, by=by, heat=3, longest=9, draw_seed=5), [7, 8, 9, 10]  # type: ignore[arg-type]
    own, base = (ModelVoice(model, pico_tokenizer) for model in tuned()[::-1])
    expected = []
    for seed in range(5, 12):
        luck, answer, score = torch.Generator().manual_seed(seed), list[int](), 0.0
        while len(answer) < 9 and (not answer or answer[-1] != own.end()):
            said = own.logits([*prompt, *answer])
            token = int(torch.multinomial((said / 3).softmax(-1), 1, generator=luck))
            mine, other = (float(voice.logits([*prompt, *answer]).log_softmax(-1)[token]) for voice in (own, base))
            score += {"likely to itself": mine, "likely to the base": other, "what tuning added": mine - other}[by]
            answer.append(token)
        expected.append((answer, score / len(answer)))
    assert len({tuple(answer) for answer, _ in expected}) == 7

    common, near = tuned()
    choir, part, read = Choir(common), between(common, near), list[tuple[int, int]]()  # type: ignore[arg-type]
    forward = common.forward

    def counting(**given: Tensor) -> object:
        read.append(tuple(given["input_ids"].shape))  # type: ignore[arg-type]
        return forward(**given)

    common.forward = counting  # type: ignore[method-assign,assignment]
    says = how.begin(Singer(choir, part or {}, pico_tokenizer), Singer(choir, {}, pico_tokenizer))
    found = says._draw(prompt, range(5, 12), 9)  # type: ignore[attr-defined]
    assert [one.answer for one in found] == [answer for answer, _ in expected]
    assert [one.mean for one in found] == pytest.approx([score for _, score in expected], abs=1e-4)
    models = 1 if by == "likely to itself" else 2
    assert read[0] == (models, len(prompt)) and len(read) <= 9, "the prompt is read once by each model, and then a token by all"
    assert read[1] == (7 * models, 1)


@torch.no_grad()
def test_how_many_are_drawn_at_once_makes_no_difference(monkeypatch: pytest.MonkeyPatch, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    def said() -> list[int]:
        common, near = tuned()
        choir, part = Choir(common), between(common, near)  # type: ignore[arg-type]
        says = BestOfN(answers=5, heat=3, longest=6).begin(Singer(choir, part or {}, pico_tokenizer), Singer(choir, {}, pico_tokenizer))
        says.logits([7, 8, 9])
        return says.best  # type: ignore[attr-defined]

    whole = said()
    for number in (1, 2):
        monkeypatch.setattr(best_of_n, "AT_ONCE", number)
        assert said() == whole
