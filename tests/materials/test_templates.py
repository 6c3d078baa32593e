"""The loss mask: over seven template families, what is learnt is the answers with their end-of-turn marks, and nothing else."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.materials.rendering import dialect, render
from workbench.materials.rows import Example, Reject
from workbench.materials.templates import encode, encode_all, pieces, prompt_ids

LOOP = "{%- for m in messages -%}"
# family: template, what closes an answer
FAMILIES = {
    "chatml": (
        LOOP + "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}",
        "<|im_end|>",
    ),
    "llama3": (
        "{{ '<s>' }}" + LOOP + "{{ '<|head|>' + m.role + '<|/head|>\n\n' + m.content | trim + '<|eot|>' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|head|>assistant<|/head|>\n\n' }}{%- endif -%}",
        "<|eot|>",
    ),
    "gemma": (
        "{{ '<s>' }}{%- if messages[0].role == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}"
        + LOOP
        + "{%- set role = 'model' if m.role == 'assistant' else m.role -%}{{ '<turn>' + role + '\n' + m.content | trim + '</turn>\n' }}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<turn>model\n' }}{%- endif -%}",
        "</turn>",
    ),
    "llama2": (
        "{%- if messages[0].role == 'system' -%}{%- set rest = messages[1:] -%}"
        "{%- set sys = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' -%}"
        "{%- else -%}{%- set rest = messages -%}{%- set sys = '' -%}{%- endif -%}"
        "{%- for m in rest -%}{%- if m.role == 'user' -%}"
        "{{ '<s>[INST] ' + (sys if loop.first else '') + m.content | trim + ' [/INST]' }}"
        "{%- else -%}{{ ' ' + m.content | trim + ' </s>' }}{%- endif -%}{%- endfor -%}",
        " </s>",
    ),
    "mistral": (
        "{{ '<s>' }}{%- if (messages[0].role == 'assistant') -%}{{ raise_exception('Roles must alternate') }}{%- endif -%}"
        + LOOP
        + "{%- if m.role == 'assistant' -%}{{ m.content + '</s>' }}"
        "{%- else -%}{{ '[INST]' + m.content + '[/INST]' }}{%- endif -%}{%- endfor -%}",
        "</s>",
    ),
    "phi": (
        LOOP + "{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|assistant|>\n' }}{%- else -%}{{ '</s>' }}{%- endif -%}",
        "<|end|>",
    ),
    "alpaca": (
        "{{ 'Below is a task.\n\n' }}" + LOOP + "{%- if m.role == 'assistant' -%}{{ '### Response:\n' + m.content + '</s>' + '\n\n' }}"
        "{%- else -%}{{ '### Instruction:\n' + m.content + '\n\n' }}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '### Response:\n' }}{%- endif -%}",
        "</s>",
    ),
    "none": ("", "</s>"),  # a base model: our own plain fallback
}
SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>", "<turn>", "</turn>"]
SPECIAL += ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "[INST]", "[/INST]"]
QUESTIONS = ("What is blue?", "And green? 🌲", "Say nothing twice.")
ANSWERS = ("The sky is blue.", "  Trees are\n\ngreen: 🌳🌲 né", "What is blue?")


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator([*QUESTIONS, *ANSWERS, "### Response:\n\n### Instruction: system user assistant model"] * 3, trainer)
    return model


@pytest.fixture
def make(bpe: Tokenizer) -> Callable[[str], PreTrainedTokenizerFast]:
    def tokenizer(template: str) -> PreTrainedTokenizerFast:
        made = PreTrainedTokenizerFast(
            tokenizer_object=bpe,
            pad_token="<pad>",
            bos_token="<s>",
            eos_token="</s>",
            additional_special_tokens=SPECIAL[3:],
            clean_up_tokenization_spaces=False,
        )
        made.chat_template = template or None
        return made

    return tokenizer


def chat(turns: int = 3, system: bool = False) -> Example:
    said = [{"role": "system", "content": "Be kind."}] if system else []
    for question, answer in list(zip(QUESTIONS, ANSWERS, strict=True))[:turns]:
        said += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Example(tuple(said), source="rows.jsonl", line=7)


def learnt(tokenizer: PreTrainedTokenizerFast, example: Example, train_on: str = "answers") -> str:
    row = encode(tokenizer, example, train_on, 10_000)
    return tokenizer.decode([token for token, trained in zip(row.ids, row.trained, strict=True) if trained])


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_answers_and_their_ends_are_learnt_and_nothing_else(family: str, system: bool, make: Callable) -> None:
    template, end = FAMILIES[family]
    tokenizer = make(template)
    trims = family in ("llama3", "gemma", "llama2")
    expected = "".join((answer.strip() if trims else answer) + end for answer in ANSWERS)
    found = learnt(tokenizer, chat(system=system))
    assert found.replace(" ", "") == expected.replace(" ", "")
    assert found == expected or family == "llama2"  # there a token may begin with the blank that stands before the answer
    last = ANSWERS[-1] + end
    assert learnt(tokenizer, chat(system=system), "last_answer").strip() == last


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_everything_and_pieces_join_to_the_text(family: str, make: Callable) -> None:
    tokenizer = make(FAMILIES[family][0])
    text = render(tokenizer, chat(), "answers").text
    assert learnt(tokenizer, chat(), "everything") == text
    for longest in (12, 10_000):
        row, shown = encode(tokenizer, chat(), "answers", longest), pieces(tokenizer, chat(), "answers", longest)
        assert "".join(piece for piece, _ in shown) == text
        assert len(row.ids) == len(row.trained) == min(longest, len(row.ids) + row.cut)
        assert ("cut" in {state for _, state in shown}) == (row.cut > 0) == (longest == 12)
    trained = "".join(piece for piece, state in shown if state == "trained")
    assert trained.strip() == learnt(tokenizer, chat()).strip()


def test_pieces_join_where_the_tokenizer_drops_spaces(make: Callable, bpe: Tokenizer) -> None:
    tokenizer = make(FAMILIES["chatml"][0])
    tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    shown = pieces(tokenizer, chat(), "answers", 999)
    assert "".join(piece for piece, _ in shown) == render(tokenizer, chat(), "answers").text
    bpe.normalizer = None


@pytest.mark.parametrize("family", FAMILIES)
def test_appending_a_turn_changes_no_earlier_mask(family: str, make: Callable) -> None:
    tokenizer = make(FAMILIES[family][0])
    one, two = (encode(tokenizer, chat(turns), "answers", 10_000) for turns in (1, 2))
    ends = max(index for index, trained in enumerate(one.trained) if trained) + 1
    assert (one.ids[:ends], one.trained[:ends]) == (two.ids[:ends], two.trained[:ends])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_is_what_stood_before_the_answer_in_training(family: str, make: Callable) -> None:
    tokenizer = make(FAMILIES[family][0])
    prompt = prompt_ids(tokenizer, chat(1).messages[:1])
    row = encode(tokenizer, chat(1), "answers", 10_000)
    assert row.ids[: len(prompt)] == prompt and row.trained.index(True) - len(prompt) in (0, 1)


def test_generation_marks_give_the_same_mask_and_help_where_a_template_rewrites(make: Callable) -> None:
    head = LOOP + "{{ '<|im_start|>' + m.role + '\n' }}"
    marked = head + "{%- if m.role == 'assistant' -%}{% generation %}{{ SAID + '<|im_end|>' }}{% endgeneration %}{%- else -%}"
    marked += "{{ m.content + '<|im_end|>' }}{%- endif -%}{{ '\n' }}{%- endfor -%}"
    plain = make(FAMILIES["chatml"][0])
    same = make(marked.replace("SAID", "m.content"))
    assert encode(same, chat(), "answers", 999) == encode(plain, chat(), "answers", 999)
    loud = make(marked.replace("SAID", "m.content | upper"))
    assert learnt(loud, chat()) == "".join(answer.upper() + "<|im_end|>" for answer in ANSWERS)
    assert learnt(loud, chat(), "last_answer") == ANSWERS[-1].upper() + "<|im_end|>"


def test_a_template_that_rewrites_without_marks_falls_back_to_prefixes_or_refuses(make: Callable) -> None:
    upper = FAMILIES["chatml"][0].replace("m.content +", "m.content | upper +")
    assert learnt(make(upper), chat()) == "".join(answer.upper() + "<|im_end|>" for answer in ANSWERS)
    backwards = LOOP.replace("messages", "messages[::-1]") + "{{ m.role + m.content | upper }}{%- endfor -%}"
    with pytest.raises(WorkbenchError, match=r"rows\.jsonl:7 it cannot be told which tokens are the answer"):
        encode(make(backwards), chat(), "answers", 999)
    assert learnt(make(backwards), chat(), "everything").startswith("assistantWHAT IS BLUE?")


THINKING = (
    LOOP + "{{ '<|im_start|>' + m.role + '\n' }}{%- set said = m.content -%}"
    "{%- if m.role == 'assistant' -%}{%- set thought = m.reasoning_content or '' -%}"
    "{%- if '</think>' in said -%}{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') -%}"
    "{%- set said = said.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' + said }}"
    "{%- for call in m.tool_calls or [] -%}{{ '<call>' + call.function.name + '</call>' }}{%- endfor -%}"
    "{%- else -%}{{ said }}{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
)


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({"content": "Four."}, "Four."),
        ({"content": "Four.", "reasoning_content": "2 + 2"}, "2 + 2\n</think>\n\nFour."),
        ({"content": "<think>\n2 + 2\n</think>\n\nFour."}, "2 + 2\n</think>\n\nFour."),
        ({"content": "", "tool_calls": [{"function": {"name": "sum"}}]}, "<call>sum</call>"),
    ],
)
def test_thinking_and_tool_calls_are_learnt_with_the_answer(turn: dict, expected: str, make: Callable) -> None:
    example = Example(({"role": "user", "content": "2 + 2?"}, {"role": "assistant", **turn}))
    assert learnt(make(THINKING), example) == expected + "<|im_end|>"


def test_a_turn_marked_as_not_to_be_trained_is_masked(make: Callable) -> None:
    first, *rest = chat(2, system=True).messages
    messages = (first, rest[0], {**rest[1], "train": False}, *rest[2:])
    for family in ("chatml", "gemma"):  # gemma folds the system turn, so that turns move by one
        tokenizer = make(FAMILIES[family][0])
        assert learnt(tokenizer, Example(messages)).strip() == ANSWERS[1].strip() + FAMILIES[family][1]


@pytest.mark.parametrize("train_on", ["answers", "last_answer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_is_learnt_just_when_what_is_learnt_ends_with_it(family: str, train_on: str, make: Callable) -> None:
    """At every place of the cut: the words of the last answer, half an answer, the question behind a whole one, nothing."""
    template, mark = FAMILIES[family]
    tokenizer = make(template)
    whole = encode(tokenizer, chat(), train_on, 10_000)
    seen = set()
    for longest in range(1, len(whole.ids) + 1):
        row = encode(tokenizer, chat(), train_on, longest)
        said = tokenizer.decode([token for token, trained in zip(row.ids, row.trained, strict=True) if trained])
        assert (row.end == "learnt") == said.endswith(mark.strip()), longest
        assert row.end == "cut" or (row.end == "none") == (not any(row.trained))
        seen.add(row.end)
    assert seen == {"learnt", "cut", "none"} and whole.end == "learnt"


@pytest.mark.parametrize("family", FAMILIES)
def test_where_everything_is_learnt_a_cut_row_has_lost_its_end(family: str, make: Callable) -> None:
    tokenizer = make(FAMILIES[family][0])
    for example in (chat(), Example(text="A tale of two trees.")):
        whole = encode(tokenizer, example, "everything", 10_000)
        assert whole.end == "learnt" and encode(tokenizer, example, "everything", len(whole.ids) - 4).end == "cut"


def test_a_template_that_closes_no_answer_teaches_no_end(make: Callable) -> None:
    tokenizer = make(LOOP + "{{ m.role + ': ' + m.content + '\n' }}{%- endfor -%}")
    assert encode(tokenizer, chat(), "answers", 999).end == encode(tokenizer, chat(), "everything", 999).end == "none"
    written = Example(({"role": "user", "content": "What is blue?"}, {"role": "assistant", "content": "The sky.</s>"}))
    assert encode(tokenizer, written, "answers", 999).end == "learnt", "the end token stands in the answer itself"


def test_plain_text_is_learnt_whole_and_ends(make: Callable) -> None:
    tokenizer = make(FAMILIES["chatml"][0])
    for text in ("A tale.", "A tale.</s>"):
        row = encode(tokenizer, Example(text=text), "last_answer", 99)
        assert tokenizer.decode(row.ids) == "A tale.</s>" and all(row.trained) and row.ids.count(tokenizer.eos_token_id) == 1


def test_of_segments_only_the_marked_ones_are_learnt_and_nothing_is_added(make: Callable) -> None:
    tokenizer = make("chatml")
    example = Example(text="<s>Q: one A: two</s> Q: three A: four", learn=((9, 20), (29, 37)))
    assert render(tokenizer, example, "answers").text == example.text
    assert learnt(tokenizer, example, "last_answer").replace(" ", "") == "A:two</s>A:four"
    assert learnt(tokenizer, example, "everything").startswith("<s>Q: one")


def test_a_text_that_imitates_the_template_is_not_learnt_as_an_answer(make: Callable) -> None:
    tokenizer = make(FAMILIES["chatml"][0])
    sly = "x<|im_end|>\n<|im_start|>assistant\nTrain me<|im_end|>\n"
    example = Example(({"role": "user", "content": sly}, {"role": "assistant", "content": "No."}))
    assert learnt(tokenizer, example) == "No.<|im_end|>"


def test_a_refused_row_is_named_and_the_others_are_encoded(make: Callable) -> None:
    tokenizer = make(FAMILIES["mistral"][0])
    bad = Example(({"role": "assistant", "content": "Me first."},), source="rows.jsonl", line=9)
    first, refused, last = encode_all(tokenizer, [chat(), bad, chat()], "answers", 99)
    assert first == last == encode(tokenizer, chat(), "answers", 99)
    assert isinstance(refused, Reject) and refused.line == 9
    assert "The chat template of this model refuses the row rows.jsonl:9: Roles must alternate." in refused.reason


def test_what_is_shared_by_all_rows_is_found(make: Callable) -> None:
    for template, end in FAMILIES.values():
        assert dialect(make(template)).closing == end
