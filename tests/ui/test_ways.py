"""The ways to tune: every adapter once, in the family that it says, with what it would move."""

import re

import pytest

from workbench.core.informed import Looking
from workbench.core.method import discover, shelf
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import shares
from workbench.ui.ways import FAMILIES, families

discover()


def test_every_adapter_stands_once_in_the_family_that_it_says() -> None:
    markup = families("lora", {})
    parts = markup.split("<details")[1:]
    seen = {re.search(r"<b>(.*?) <i>", part)[1]: re.findall(r"data-pick=(\w+)", part) for part in parts}
    wanted = {words: [] for _, words, _ in FAMILIES.values()}
    for name, method in shelf("adapters").items():
        wanted[FAMILIES[method.family][1]].append(name)
    assert {title: sorted(names) for title, names in seen.items()} == {title: sorted(names) for title, names in wanted.items() if names}
    assert markup.count("aria-pressed=true") == 1


def test_the_family_of_the_chosen_one_is_open_and_it_stands_first() -> None:
    for chosen in ("lora", "full", "lift"):
        (opened,) = [part for part in families(chosen, {}).split("<details")[1:] if part.startswith(' name="family" open')]
        assert re.search(r"data-pick=(\w+) aria-pressed=(\w+)", opened).groups() == (chosen, "true")


def test_what_would_move_is_told_where_it_is_known() -> None:
    markup = families("lora", {"full": 1.0, "lora": 0.00423, "lift": 0.1262})
    assert re.search(r"data-pick=full.*?<i>100 %</i>", markup) and re.search(r"data-pick=lora.*?<i>0.42 %</i>", markup)
    assert "<i>13 %</i>" in markup and markup.count(" %</i>") == 3
    assert re.findall(r"<i>(\d+) %</i>", families("lora", {"lora": 0.972, "full": 0.996})) == ["97", "100"]


def test_those_that_read_rows_first_say_so() -> None:
    buttons = dict(re.findall(r'data-pick="?(\w+)"?(.*?)</button>', families("lora", {})))
    assert {name for name, words in buttons.items() if "reads rows first" in words} == {
        name for name, method in shelf("adapters").items() if issubclass(method, Looking)
    }


def test_titles_and_first_sentences_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("title", "summary"):
        monkeypatch.setattr(shelf("adapters")["lora"], words, classmethod(lambda cls, words=words: f"<s>{words}"))
    markup = families("lora", {})
    assert "&lt;s&gt;title" in markup and "&lt;s&gt;summary" in markup and "<s>" not in markup


def test_the_shares_are_those_of_the_model(workspace: Workspace) -> None:
    found = shares("pocket", workspace)
    assert found["full"] == 1 and 0 < found["lora"] < 0.2
    assert set(found) <= set(shelf("adapters")) and len(found) > 10
