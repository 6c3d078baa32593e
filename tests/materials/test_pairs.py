"""Preference pairs in every way they are written: the better answer is learnt, the worse one is kept, and it is known where they part."""

import json
from pathlib import Path

import pytest

from workbench.materials.formats import detect, read
from workbench.materials.rows import Example, Reject

ASKED, GOOD, BAD = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}, {"role": "assistant", "content": "No."}
SPOKEN = "\n\nHuman: Hi\n\nAssistant: {}"
WAYS = {
    "texts": {"prompt": "Hi", "chosen": "Hello!", "rejected": "No."},
    "a question": {"question": "Hi", "response_j": "Hello!", "response_k": "No."},
    "turns beside a prompt": {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
    "one turn beside a prompt": {"prompt": "Hi", "chosen": GOOD, "rejected": BAD},
    "whole conversations": {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    "whole conversations and the prompt again": {"prompt": "Hi", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello!"},
        "rejected": {"from": "gpt", "value": "No."},
    },
    "spoken": {"chosen": SPOKEN.format("Hello!"), "rejected": SPOKEN.format("No.")},
}


def only(tmp_path: Path, row: dict) -> Example | Reject:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = read(path)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same(way: str, tmp_path: Path) -> None:
    row = only(tmp_path, {**WAYS[way], "topic": 3})
    assert isinstance(row, Example), row
    assert (list(row.messages), list(row.worse), row.format) == ([ASKED, GOOD], [BAD], "preference")
    assert row.meta["topic"] == 3 and row.answer() == "Hello!" and detect([WAYS[way]]) == "preference"


def test_what_both_say_first_is_not_part_of_the_worse_answer(tmp_path: Path) -> None:
    again = {"role": "user", "content": "And then?"}
    row = only(tmp_path, {"chosen": [ASKED, GOOD, again, GOOD], "rejected": [ASKED, GOOD, again, BAD]})
    assert isinstance(row, Example) and row.messages == (ASKED, GOOD, again, GOOD) and row.worse == (BAD,)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "Hi", "chosen": "Yes", "rejected": "Yes"}, "The better and the worse answer are the same."),
        ({"chosen": "Yes", "rejected": "No"}, 'The pair has no prompt, and its texts do not begin with "Human:".'),
        ({"prompt": "Hi", "chosen": "Yes", "rejected": [{"role": "poet", "content": "No"}]}, "Turn 2 has the unknown role 'poet'."),
        ({"prompt": "Hi", "chosen": " ", "rejected": "No"}, "An answer of the conversation is empty."),
    ],
)
def test_what_is_no_pair_says_why(row: dict, sentence: str, tmp_path: Path) -> None:
    found = only(tmp_path, row)
    assert isinstance(found, Reject) and found.reason == sentence, found


@pytest.mark.parametrize("mark", ["label", "kto_tag"])
def test_an_answer_marked_as_bad_is_kept_and_not_learnt(mark: str, tmp_path: Path) -> None:
    bad = only(tmp_path, {"prompt": "Hi", "completion": "No.", mark: False})
    good = only(tmp_path, {"prompt": "Hi", "completion": "Hello!", mark: True})
    assert isinstance(bad, Example) and isinstance(good, Example) and bad.format == good.format == "kto"
    assert bad.messages[-1] == {**BAD, "train": False} and good.messages[-1] == GOOD and bad.meta[mark] is False


def test_segments_are_learnt_where_they_are_marked(tmp_path: Path) -> None:
    row = only(
        tmp_path, {"segments": [{"label": False, "text": "<s>Q: 1"}, {"label": True, "text": " A: 2</s>"}, {"label": True, "text": ""}]}
    )
    assert isinstance(row, Example) and row.text == "<s>Q: 1 A: 2</s>" and row.learn == ((7, 16),) and row.format == "segments"
    assert row.answer() == " A: 2</s>" and row.question() == "<s>Q: 1"
    for segments, sentence in (
        ([{"label": False, "text": "a"}], "No segment is marked to be learnt."),
        ([{"label": 1, "text": "a"}], "Segment 1 is not a text with a label."),
        (["a"], "Segment 1 is not a text with a label."),
    ):
        found = only(tmp_path, {"segments": segments})
        assert isinstance(found, Reject) and found.reason == sentence
