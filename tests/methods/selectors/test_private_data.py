"""Private data: tags stand in texts, turns and arguments, JSON stays JSON, no row is lost, and the demo set's fifteen rows are found."""

import csv
import json

import pytest
from surroundings import Given

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.corpus import DEMOS
from workbench.materials.formats import read
from workbench.materials.rows import Changed, Example
from workbench.methods.contracts import Selection
from workbench.methods.selectors.private_data import PrivateData

CARD = "4111111111111111"
ARGUMENTS = {"to": "bob@x.de", "cc": ["ann@x.de", {"note": "call +49 30 555 1234"}], "number": 4111111111111111, "bob@x.de": None}
CALLED = {"to": "<EMAIL>", "cc": ["<EMAIL>", {"note": "call <PHONE>"}], "number": 4111111111111111, "bob@x.de": None}


def chat(answer: str, **more: object) -> Example:
    return Example(({"role": "user", "content": "Who?"}, {"role": "assistant", "content": answer, **more}), meta={"mail": "bob@x.de"})


def run(rows: list[Example], **knobs: object) -> Selection:
    return drain(PrivateData(**knobs).keep(rows, Given()))


def one(row: Example, **knobs: object) -> Example:
    return Changed([row], run([row], **knobs).changed)[0]


def call(arguments: object) -> dict[str, object]:
    return {"id": "call-212-555-0123", "type": "function", "function": {"name": "write", "arguments": arguments}}


def test_replacing_drops_no_row_and_changes_those_with_hits_alone() -> None:
    rows = [chat("fine"), chat("a@x.de, b@x.de or 212-555-0123"), Example(text="8.8.8.8")]
    found = run(rows)
    assert found.kept == [True] * 3 and not found.reasons and list(found.scores) == [0, 3, 1] and found.cuts == ()
    assert set(found.changed) == {1, 2} and found.changed[1].answer() == "<EMAIL>, <EMAIL> or <PHONE>"
    assert found.changed[2].text == "<IP>" and found.changed[1].meta == {"mail": "bob@x.de"}, "other columns are not learnt"


def test_dropping_names_the_kinds_and_their_numbers() -> None:
    found = run([chat("fine"), chat("a@x.de, b@x.de or 212-555-0123")], do="drop")
    assert found.kept == [True, False] and not found.changed and found.cuts == (0.5,)
    assert found.reasons == {1: "holds 2 e-mail addresses, 1 telephone number"}


def test_only_the_kinds_that_are_wanted_are_looked_for() -> None:
    assert one(chat("a@x.de 8.8.8.8"), kinds="IP, card").answer() == "a@x.de <IP>"
    with pytest.raises(
        WorkbenchError, match=r"^kinds names names, which cannot be found\. There are: card, email, iban, ip, key, mac, phone"
    ):
        run([], kinds="names")


def test_numbered_tags_are_the_same_throughout_a_row() -> None:
    row = Example(
        ({"role": "user", "content": "a@x.de or b@x.de?"}, {"role": "assistant", "content": "b@x.de"}),
        worse=({"role": "assistant", "content": "a@x.de"},),
    )
    new = one(row, tags="numbered")
    assert [turn["content"] for turn in (*new.messages, *new.worse)] == ["<EMAIL_1> or <EMAIL_2>?", "<EMAIL_2>", "<EMAIL_1>"]


def test_places_that_are_learnt_move_with_the_text() -> None:
    row = Example(text="Ask a@x.de: the answer is b@x.de, now.", learn=((11, 25), (26, 38)))
    new = one(row)
    assert new.text == "Ask <EMAIL>: the answer is <EMAIL>, now." and new.answer() == " the answer is<EMAIL>, now."


@pytest.mark.parametrize(
    "written", [json.dumps(ARGUMENTS), json.dumps(ARGUMENTS, indent=3), json.dumps(ARGUMENTS, separators=(",", ":")), ARGUMENTS]
)
def test_arguments_of_tools_stay_what_they_are_but_for_their_texts(written: object) -> None:
    new = one(chat("", tool_calls=[call(written)])).messages[1]["tool_calls"][0]
    assert (new["id"], new["function"]["name"]) == ("call-212-555-0123", "write")
    arguments = new["function"]["arguments"]
    assert type(arguments) is type(written) and (json.loads(arguments) if isinstance(arguments, str) else arguments) == CALLED
    if isinstance(written, str):
        assert arguments == written.replace('"bob@x.de",', '"<EMAIL>",').replace("ann@x.de", "<EMAIL>").replace(
            "+49 30 555 1234", "<PHONE>"
        )


def test_arguments_without_a_hit_are_not_touched_and_broken_ones_are_a_text() -> None:
    spaced = '{ "a" :1.0,"b": "x" }'
    row = chat("bob@x.de", tool_calls=[call(spaced), call('{"to": "bob@x.de"'), call('{"to": "\\nbob@x.de"}'), "odd", call(None)])
    calls = one(row).messages[1]["tool_calls"]
    assert [given["function"]["arguments"] for given in calls if given != "odd"] == [
        spaced,
        '{"to": "<EMAIL>"',
        '{"to": "\\n<EMAIL>"}',
        None,
    ]


@pytest.mark.parametrize(
    "said", [f'{{"card": {CARD}, "n": 1}}', f'["bob@x.de", {CARD}]', '{"x": "\\tbob@x.de", "y": "{\\"z\\": \\"\\\\nbob@x.de\\"}"}']
)
def test_an_answer_that_is_json_stays_json(said: str) -> None:
    new = one(chat(said)).answer()
    json.loads(new)
    assert CARD not in new and "bob@x.de" not in new and "<" in new
    assert not run([chat(new)]).changed, "once more changes nothing"


def test_names_of_fields_are_looked_at_where_a_turn_says_them() -> None:
    row, parts = chat('{"a@b.com": 1}'), {"a@x.de": 1, "b@x.de": [{"c": "d@x.de", "n": int(CARD)}], "type": True}
    assert run([row], do="drop").reasons == {0: "holds 1 e-mail address"} and one(row).answer() == '{"<EMAIL>": 1}'
    assert one(chat(parts)).messages[1]["content"] == {"<EMAIL>": 1, "<EMAIL>_": [{"c": "<EMAIL>", "n": "<CARD>"}], "type": True}
    assert not run([chat("", tool_calls=[call('{"a@b.com": 4111111111111111}')])]).changed, "a tool wants its names and numbers"


def test_json_keeps_every_letter_outside_of_the_tags() -> None:
    said = '{"email":"a@b.com","price":1.10,"n":1e5,"n":1e400,"e":"\\u00e9"}\n'
    tagged = said.replace("a@b.com", "<EMAIL>")
    new = one(chat(said, tool_calls=[call(said)])).messages[1]
    assert new["content"] == tagged and new["tool_calls"][0]["function"]["arguments"] == tagged


def test_reasoning_and_deep_json_are_looked_at() -> None:
    new = one(chat("ok", reasoning_content="ask bob@x.de")).messages[1]
    assert new["reasoning_content"] == "ask <EMAIL>" and new["content"] == "ok"
    assert "bob@x.de" not in one(chat("[" * 600 + '"bob@x.de"' + "]" * 600)).answer()


@pytest.mark.parametrize("tags", ["plain", "numbered"])
def test_the_demo_set_s_rows_are_found_and_no_others(tags: str) -> None:
    with (DEMOS / "truth" / "messy.csv").open() as file:
        flawed = {int(row["line"]) for row in csv.DictReader(file) if row["flaw"] == "private data"}
    rows = [row for row in read(DEMOS / "messy.jsonl") if isinstance(row, Example)]
    first = run(rows, tags=tags)
    assert {row.line for row, score in zip(rows, first.scores, strict=True) if score} == flawed and len(flawed) == 15
    again = run(list(Changed(rows, first.changed)), tags=tags)
    assert not again.changed and sum(again.scores) == 0 and len(again.kept) == len(rows)


def test_none_one_and_copies() -> None:
    assert run([]).kept == [] and run([Example(text="")]).scores == [0]
    assert list(run([chat("bob@x.de")] * 3).scores) == [1, 1, 1]
