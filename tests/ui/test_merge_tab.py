"""What the Merge tab says of an adapter: in what it will differ from the merge that is tried in memory."""

import pytest

from workbench.core.spec import MergeSpec
from workbench.ui.merging import unlike


@pytest.mark.parametrize(("more", "words"), [
    ({}, ""), ({"save": "adapter"}, ""), ({"save": "adapter", "rank": 4}, "before it is cut to rank 4"),
    ({"save": "adapter", "of": "factors"}, "made of A and B apart"),
    ({"save": "adapter", "of": "factors", "rank": 4}, "made of A and B apart"),
])  # fmt: skip
def test_a_preview_says_in_what_an_adapter_will_differ(more: dict, words: str) -> None:
    said = unlike(MergeSpec(models=[{"model": "run:0001"}], **more))
    assert words in said and bool(words) is bool(said)
