"""Tokens matched between models: who fills in for whom, what a tokenizer.json says, and rows read in runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.family import Member
from workbench.materials.vocabulary import Vocabulary, gathered, matched, read_tokens

NAME = "model.embed_tokens.weight"


class Held(Member):
    """A model whose embeddings are numbers at hand; it remembers what was read."""

    table: Tensor
    read: list[tuple[int, int]]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.table.shape)

    def raw(self, name: str, start: int, stop: int) -> Tensor:
        self.read.append((start, stop))
        return self.table[start:stop].clone()


def held(label: str, *rows: float) -> Held:
    found = Held(label, {}, {NAME: None})  # type: ignore[dict-item]
    object.__setattr__(found, "table", torch.tensor(rows, dtype=torch.float32)[:, None].repeat(1, 2))
    object.__setattr__(found, "read", [])
    return found


def folder(path: Path, tokens: list[str], added: list[str] = (), **model: Any) -> Path:  # type: ignore[assignment]
    path.mkdir()
    vocab = {token: row for row, token in enumerate(tokens)}
    entries = [{"id": len(tokens) + place, "content": token, "special": True} for place, token in enumerate(added)]
    (path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab, **model}, "added_tokens": entries}))
    return path


def test_a_missing_row_is_the_base_s_its_only_owner_s_the_mean_of_its_owners_or_the_mean_row(tmp_path: Path) -> None:
    members = [held("base", 1, 2), held("a", 10, 20, 30), held("b", 100, 200, 300, 400)]
    words = {"base": ["p", "q", "lost"], "a": ["q", "s", "r"], "b": ["t", "s", "p", "q"]}
    folders = [folder(tmp_path / name, tokens) for name, tokens in words.items()]
    found, vocabulary = matched(members, folders, 0, union=True)
    assert [new["content"] for new in vocabulary.new] == ["s", "r", "t"] and [new["id"] for new in vocabulary.new] == [3, 4, 5]
    assert vocabulary.size == 6 and vocabulary.orphans == ("lost",) and vocabulary.pieces == 3
    rows = [member.rows(NAME, 0, 6)[:, 0].tolist() for member in found]
    assert rows[0] == [1, 2, 1.5, 110, 30, 100], "p, q, lost: the mean row, s: the mean of 20 and 200, r: a's, t: b's"
    assert rows[1] == [1, 10, 1.5, 20, 30, 100], "p is the base's"
    assert rows[2] == [300, 400, 1.5, 200, 30, 100]
    assert torch.equal(torch.cat([found[2].rows(NAME, 0, 2), found[2].rows(NAME, 2, 5)]), found[2].rows(NAME, 0, 5))


def test_another_model_s_vocabulary_with_its_padding(tmp_path: Path) -> None:
    members = [held("base", 1, 2), held("a", 10, 20, 30, 40)]
    found, vocabulary = matched(members, [folder(tmp_path / "base", ["p", "q"]), folder(tmp_path / "a", ["q", "p"], ["<x>"])], 1, False)
    assert vocabulary.size == 4 and not vocabulary.new and not vocabulary.orphans and vocabulary.folder == tmp_path / "a"
    assert [member.rows(NAME, 0, 4)[:, 0].tolist() for member in found] == [[2, 1, 30, 40], [10, 20, 30, 40]]


def test_consecutive_rows_are_read_at_once() -> None:
    member = held("m", *range(10))
    wanted = torch.tensor([4, 5, 6, -1, 7, 2, 3, -1, 0])
    assert gathered(member, NAME, wanted)[:, 0].tolist() == [4, 5, 6, 0, 7, 2, 3, 0, 0]
    assert member.read == [(4, 7), (7, 8), (2, 4), (0, 1)]
    assert gathered(member, NAME, torch.tensor([-1, -1])).abs().sum() == 0 and len(member.read) == 4


def test_what_a_tokenizer_says(tmp_path: Path) -> None:
    plain = read_tokens(folder(tmp_path / "bpe", ["a", "b"], ["<x>"]), "m")
    assert plain.rows == {"a": 0, "b": 1, "<x>": 2} and plain.count == 3 and list(plain.added) == ["<x>"]
    path = tmp_path / "bpe" / "tokenizer.json"
    path.write_text(json.dumps({"model": {"type": "Unigram", "vocab": [["<s>", 0.0], ["▁a", -1.5]]}}))
    assert read_tokens(tmp_path / "bpe", "m").rows == {"<s>": 0, "▁a": 1}
    for broken in ("[]", "{", '{"model": {"vocab": 3}}', '{"model": {"vocab": {"a": "b"}}}'):
        path.write_text(broken)
        with pytest.raises(WorkbenchError, match="cannot be read as a tokenizer"):
            read_tokens(tmp_path / "bpe", "m")
    path.unlink()
    with pytest.raises(WorkbenchError, match=r"m has no tokenizer\.json"):
        read_tokens(tmp_path / "bpe", "m")


def test_new_tokens_are_written_into_all_files_that_name_tokens(tmp_path: Path) -> None:
    place = folder(tmp_path / "out", ["a"], ["<x>"])
    (place / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"1": {"content": "<x>"}}, "eos_token": "<x>"}))
    (place / "vocab.json").write_text("{}")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    Vocabulary(place, {}, 3, [{"id": 2, "content": "<y>", **flags}]).write(place)
    assert read_tokens(place, "m").rows == {"a": 0, "<x>": 1, "<y>": 2} and not (place / "vocab.json").exists()
    settings = json.loads((place / "tokenizer_config.json").read_text())
    assert settings["added_tokens_decoder"]["2"] == {"content": "<y>", **flags} and settings["eos_token"] == "<x>"


def test_a_model_without_embeddings_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path / "m", ["a"])
    with pytest.raises(WorkbenchError, match="m has no embeddings by a name that is known here"):
        matched([Member("m", {}, {})], [place], 0, False)
