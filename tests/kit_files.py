"""mergekit's YAML as tests write it: read as a merge spec, or refused."""

import pytest
import yaml

from workbench.core.errors import SpecError
from workbench.core.spec import MergeSpec, parse_spec


def read(text: str) -> MergeSpec:
    return parse_spec(yaml.safe_load(text))  # type: ignore[return-value]


def mistakes(text: str) -> list[str]:
    with pytest.raises(SpecError) as refused:
        read(text)
    return refused.value.mistakes
