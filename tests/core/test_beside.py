"""Which adapter folders hold modules that stay beside their model."""

import json
from pathlib import Path

import pytest

from workbench.core.beside import BESIDE, CONFIG, foldable, stays_beside


def test_only_a_folder_that_names_such_modules_stays_beside(tmp_path: Path) -> None:
    for told, wanted in (({BESIDE: {}}, True), ({"peft_type": "LORA"}, False)):
        (tmp_path / CONFIG).write_text(json.dumps(told))
        assert stays_beside(tmp_path) is wanted and foldable(tmp_path) is not wanted


@pytest.mark.parametrize("text", ["null", "3", '"x"', "[", "", None])
def test_a_config_that_is_no_mapping_is_left_to_who_opens_it(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / CONFIG).write_text(text)
    assert foldable(tmp_path)
    with pytest.raises((OSError, ValueError)):
        stays_beside(tmp_path)
