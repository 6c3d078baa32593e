"""The questions of data sets for the models of the Compare tab, as a run, or all that is missing in words."""

import pytest

from workbench.core.errors import SpecError
from workbench.ui.batch import spec_of


def test_the_models_are_asked_all_questions_of_the_sets() -> None:
    spec = spec_of(["pocket", "run:0001", "pocket"], ["known", "exam"], {"scorer": "contains", "most_rows": 7})
    assert spec.models == ["pocket", "run:0001"] and [one.data for one in spec.sets] == ["known", "exam"]
    assert all((one.scorer, one.most_rows) == ("contains", 7) for one in spec.sets)
    assert len(spec_of(["pocket"], ["x" * 200], {}).name) == 80


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(SpecError) as error:
        spec_of([], [], {})
    assert len(error.value.mistakes) == 2
    with pytest.raises(SpecError, match="regular expression"):
        spec_of(["pocket"], ["known"], {"pattern": "("})
