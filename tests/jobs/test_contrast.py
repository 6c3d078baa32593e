"""Two selections: every row that either keeps is in one part, and two that choose among other rows are refused."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs import contrast as module
from workbench.jobs.contrast import Contrast, contrast


@pytest.fixture
def path(tmp_path: Path) -> str:
    own = tmp_path / "rows.jsonl"
    own.write_text("".join(f'{{"prompt": "{n}?", "completion": "{"x" * n}"}}\n' for n in range(1, 11)))
    return str(own)


def keeping(path: str, **ends: int) -> DataSpec:
    return DataSpec(path=path, selectors=[{"method": "statistic", **ends}])  # type: ignore[list-item]


def test_each_row_that_either_keeps_is_in_one_part(path: str, workspace: Workspace) -> None:
    found = drain(contrast(keeping(path, most=6), keeping(path, least=4, most=8), workspace))
    assert found == Contrast(both=[4, 5, 6], only_one=[1, 2, 3], only_other=[7, 8]) and found.overlap == 3 / 8


@pytest.mark.parametrize(("ends", "overlap"), [({"most": 4}, 1.0), ({"least": 5}, 0.0)])
def test_the_overlap_is_one_for_the_same_and_none_for_what_has_nothing_in_common(
    path: str, workspace: Workspace, ends: dict[str, int], overlap: float
) -> None:
    assert drain(contrast(keeping(path, most=4), keeping(path, **ends), workspace)).overlap == overlap


def test_nothing_kept_twice_is_the_same(path: str, workspace: Workspace) -> None:
    assert drain(contrast(keeping(path, least=99), keeping(path, least=98), workspace)).overlap == 1


def test_selections_of_two_data_sets_are_refused(path: str, workspace: Workspace) -> None:
    with pytest.raises(WorkbenchError, match=r"is of .*rows\.jsonl' and the other of 'messy'.*among the same rows"):
        drain(contrast(DataSpec(path=path), DataSpec(path="messy"), workspace))
    with pytest.raises(WorkbenchError, match="read its columns otherwise"):
        drain(contrast(DataSpec(path=path), DataSpec(path=path, columns={"prompt": "prompt"}), workspace))


def test_each_recipe_is_taken_with_the_model_that_is_trained_on_it_and_rows_are_in_order(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"one": [1, 8, 16, 64, 400], "two": [1, 400, 1024]}

    def sifted(spec: DataSpec, workspace: Workspace, model: str) -> Iterator[SimpleNamespace]:
        yield from ()
        return SimpleNamespace(kept=kept[model])

    monkeypatch.setattr(module, "sifted", sifted)
    found = drain(contrast(DataSpec(), DataSpec(), workspace, "one", "two"))
    assert found == Contrast(both=[2, 401], only_one=[9, 17, 65], only_other=[1025])
