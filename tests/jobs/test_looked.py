"""Near copies on both sides of the split, and further languages, as findings with the step that mends them."""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.workspace import Workspace
from workbench.jobs.curate import look
from workbench.jobs.issues import Issue
from workbench.jobs.steps import sifted
from workbench.materials.corpus import sides

ENGLISH = "The ship {0} left the harbour before the sun had risen, and nobody of the {0} was there to see it."
GERMAN = "Das Schiff {0} verließ den Hafen, bevor die Sonne aufging, und niemand von {0} war da, um es zu sehen."


def write(folder: Path, answers: list[str], asks: str = "Tell me about ship {}, which has a long name: {}.") -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": asks.format(n, n * n), "completion": one}) + "\n" for n, one in enumerate(answers)))
    return str(path)


def found(kind: str, spec: DataSpec, tokenizer: PreTrainedTokenizerFast, workspace: Workspace) -> Issue | None:
    return next((issue for issue in look(spec, tokenizer, workspace).issues if issue.kind == kind), None)


def test_near_copies_on_both_sides_of_the_split_are_counted_and_mended(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    """Pairs of rows that differ in one word ask differently, so that the split may part them: counted here by hand."""
    words = [[f"w{number}x{place}" for place in range(120)] for number in range(40)]
    path = write(tmp_path, [" ".join([*own, more]) for own in words for more in ("one", "two")], asks="{}?{}")
    spec = DataSpec(path=path, validation_share=0.2)
    examples = drain(sifted(spec, workspace)).examples
    train, held = drain(sides(examples, 0.2, 0))
    parted = [row + 1 for row in held if row ^ 1 in set(train)]
    issue = found("copies on both sides", spec, pico_tokenizer, workspace)
    assert parted and issue is not None and issue.rows == parted and issue.count == len(parted)
    assert f"{len(parted)} of the {len(held)} rows that are held back" in issue.text
    for step in (issue.remedy, {"method": issue.remedy, "keeps": "all"}):
        mended = spec.model_copy(update={"selectors": DataSpec(selectors=[step]).selectors})
        assert found("copies on both sides", mended, pico_tokenizer, workspace) is None
    assert found("copies on both sides", spec.model_copy(update={"validation_share": 0.0}), pico_tokenizer, workspace) is None


def test_a_few_rows_in_another_language_are_found_and_the_step_drops_them(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    names = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60)]
    path = write(tmp_path, [(GERMAN if n % 15 == 0 else ENGLISH).format(name) for n, name in enumerate(names)])
    issue = found("other languages", DataSpec(path=path), pico_tokenizer, workspace)
    assert issue is not None and (issue.level, issue.rows) == ("watch", [1, 16, 31, 46])
    assert "in German, while most are in English" in issue.text
    mended = look(DataSpec(path=path, selectors=[{"method": issue.remedy, **issue.knobs}]), pico_tokenizer, workspace)
    assert mended.kept == 56 and not [one for one in mended.issues if one.kind == "other languages"]


def test_a_set_in_two_languages_is_told_and_not_warned_of(
    workspace: Workspace, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    path = write(tmp_path, [(GERMAN if n % 3 == 0 else ENGLISH).format(n) for n in range(60)])
    issue = found("other languages", DataSpec(path=path), pico_tokenizer, workspace)
    assert issue is not None and (issue.level, issue.count) == ("info", 20)
