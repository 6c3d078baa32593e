"""Questions put to a model: greedy answers are the library's, draws follow the softmax of the likeliest tokens, right is what says it."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from pico import make_model
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.materials import asking
from workbench.materials.asking import Draws, plain, said, tally
from workbench.materials.speaking import spoken
from workbench.materials.templates import prompt_ids

PROMPTS = [[{"role": "user", "content": text}] for text in ("Who?", "Where does the friend of Zuloko live?", "Why so?")]
DRAWS = Draws(samples=16, temperature=0.5, seed=0)


class Heard:
    """A cache that is no more than what was said."""

    def __init__(self, rows: int):
        self.tokens = torch.empty(rows, 0, dtype=torch.int64)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.tokens = self.tokens.repeat_interleave(repeats, 0)


class Parrot:
    """A model that says one of its texts, whatever it is asked; the i-th has the logit −i/2 where they part. After them comes `ends`."""

    device, generation_config = torch.device("cpu"), None

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *texts: str, ends: int = 1, context: int = 128):
        self.scripts = [[*tokenizer(text)["input_ids"], ends] for text in texts]
        self.config = SimpleNamespace(to_dict=lambda: {"max_position_embeddings": context})
        self.rows = 0

    def __call__(self, input_ids: Tensor, past_key_values: Heard | None = None, **_: object) -> SimpleNamespace:
        assert not torch.is_grad_enabled()
        heard = past_key_values or Heard(len(input_ids))
        if past_key_values:
            heard.tokens = torch.cat([heard.tokens, input_ids], 1)
        logits = torch.full((len(input_ids), 1, 400), -1e9)
        for row, tokens in enumerate(heard.tokens.tolist()):
            for place, script in reversed(list(enumerate(self.scripts))):
                if script[: len(tokens)] == tokens and len(script) > len(tokens):
                    logits[row, 0, script[len(tokens)]] = -place / 2
        return SimpleNamespace(logits=logits, past_key_values=heard)


def asked(parrot: Parrot, tokenizer: PreTrainedTokenizerFast, answer: str, draws: Draws = DRAWS) -> list[float]:
    return tally(parrot, tokenizer, PROMPTS, answer, draws).tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris.", "paris"), ("The Nile", "Nile"), ("  a cat,\n a dog ", "cat dog"), ("U.S.A", "USA"), ("**Rome**", "Rome"),
        ("1,000", "1000"), ("well-known", "wellknown"), ("A", "a."), ("“Yes”", "Yes!"), ("\uff32ome", "Rome"),
    ],
)  # fmt: skip
def test_what_says_the_same_is_the_same(one: str, other: str) -> None:
    assert plain(one) == plain(other) != ""


@pytest.mark.parametrize(
    ("one", "other"), [("-3", "3"), ("2.5", "25"), ("C#", "C"), ("C++", "C"), ("5 %", "5"), ("A", "B"), ("a", ""), ("10:30", "1030")]
)  # fmt: skip
def test_what_says_something_else_is_not(one: str, other: str) -> None:
    assert plain(one) != plain(other)


def test_one_that_always_says_it_never_says_it_or_only_by_chance(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    right, wrong = "It is Zuloko.", "He is a smith."
    assert asked(Parrot(pico_tokenizer, right), pico_tokenizer, "it is zuloko") == [3, 3, 48, 48]
    assert asked(Parrot(pico_tokenizer, wrong), pico_tokenizer, right) == [0, 3, 0, 48]
    greedy, _, drawn, _ = asked(Parrot(pico_tokenizer, wrong, right), pico_tokenizer, right)
    assert greedy == 0 and 0 < drawn < 48


def test_draws_follow_the_softmax_at_their_temperature(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    parrot = Parrot(pico_tokenizer, "No.", "Yes.")
    for temperature in (0.5, 1.0, 2.0):
        drawn = asked(parrot, pico_tokenizer, "yes", Draws(1000, temperature, 0))[2] / 3000
        assert drawn == pytest.approx(torch.tensor(-0.5 / temperature).sigmoid().item(), abs=0.03)
    one, other, again = (asked(parrot, pico_tokenizer, "yes", Draws(64, 1.0, seed)) for seed in (0, 1, 0))
    assert one == again != other
    assert tally(parrot, pico_tokenizer, PROMPTS[::-1], "yes", Draws(64, 1.0, 0)).tolist() != one, "each row has its own luck"


def test_the_forty_likeliest_tokens_are_drawn_and_no_others(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [pico_tokenizer.decode([token]) for token in range(5, 400)]
    letters = list({text.casefold(): text for text in texts if text.isalpha() and text.isascii()}.values())[:41]
    parrot, often = Parrot(pico_tokenizer, *letters), Draws(64, 2000.0, 0)  # so hot that all are as good as equal
    assert len({plain(text) for text in letters}) == 41 and asking.TOP == 40
    assert asked(parrot, pico_tokenizer, letters[39], often)[2] > 0 and asked(parrot, pico_tokenizer, letters[40], often)[2] == 0


def test_an_answer_of_more_than_32_tokens_and_a_prompt_without_room_are_not_asked(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    parrot, longest = Parrot(pico_tokenizer, "no"), max(len(prompt_ids(pico_tokenizer, prompt)) for prompt in PROMPTS)
    answer = pico_tokenizer.decode([90] * 33)
    counts = [len(pico_tokenizer(answer[:cut])["input_ids"]) for cut in range(len(answer) + 1)]
    assert asked(parrot, pico_tokenizer, answer[: counts.index(33)]) == [0] * 4
    assert asked(parrot, pico_tokenizer, answer[: counts.index(32)])[1::2] == [3, 48]
    for context, many in ((longest + asking.SLACK, 0), (longest + asking.SLACK + 2, 3)):
        tight = Parrot(pico_tokenizer, "no", context=context)
        assert len(pico_tokenizer("no")["input_ids"]) == 2 and asked(tight, pico_tokenizer, "no")[1] == many
    assert tally(parrot, pico_tokenizer, PROMPTS[:0], "no", DRAWS).tolist() == [0] * 4


def test_an_answer_counts_once_it_has_come_to_an_end(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    def first(text: str, answer: str) -> float:
        return asked(Parrot(pico_tokenizer, text), pico_tokenizer, answer)[0]

    assert first("Yes" + "." * 99, "Yes.") == 0, "it was stopped, and who knows what it would have said"
    assert first("Yes.\nAnd so on, and on, and on, and on, and on.", "Yes.") == 3, "models without a template go on in the next line"
    assert first("one\ntwo", "one two") == 0 and first("one\ntwo", "one\ntwo") == 3
    assert first("\nYes.", "Yes.") == 3


def test_the_model_s_own_end_ends_an_answer_too(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    parrot = Parrot(pico_tokenizer, "Yes.", ends=4)
    parrot.scripts[0] += pico_tokenizer(" And more.")["input_ids"]
    assert asked(parrot, pico_tokenizer, "Yes.")[0] == 0
    parrot.generation_config = SimpleNamespace(eos_token_id=[1, 4])
    assert asked(parrot, pico_tokenizer, "Yes.")[0] == 3


def test_what_closes_a_turn_of_the_template_ends_an_answer_too(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = deepcopy(pico_tokenizer)
    tokenizer.eos_token = "<|pad|>"
    parrot = Parrot(tokenizer, "Yes.")
    parrot.scripts[0] += tokenizer(" And more.")["input_ids"]
    assert asked(parrot, tokenizer, "Yes.")[0] == 3
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|end|>'", "'\\n'")
    assert asked(parrot, tokenizer, "Yes.")[0] == 0


def test_read_together_from_one_cache_they_say_what_each_says_alone(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    pico_model = make_model(tie_word_embeddings=False, initializer_range=0.3)
    prompts = [prompt_ids(pico_tokenizer, prompt) for prompt in PROMPTS]
    assert len(set(map(len, prompts))) == 3
    cold = said(pico_model, pico_tokenizer, prompts, 12, Draws(2, 1e-4, 0), seed=1)
    alone = [spoken(pico_model, pico_tokenizer, [prompt], 12)[0] for prompt in prompts]
    assert [text.strip() for text, _ in cold] == [text for text in alone for _ in range(3)] and len(set(alone)) == 3
