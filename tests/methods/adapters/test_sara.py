"""SaRA's choice: the smallest weights of each matrix, as many as the share says."""

import pytest
from pico import make_model

from workbench.methods.adapters.sara import SaRA


@pytest.mark.parametrize("share", [0.1, 0.37])
def test_the_smallest_weights_of_each_matrix_move(share: float) -> None:
    model = make_model()
    attachment = SaRA(share=share, targets="attention").attach(model, seed=0)
    for name, values in attachment.trained():
        sizes = model.get_parameter(name).detach().abs().flatten()
        assert values.numel() == int(share * len(sizes))
        assert sorted(values.abs().flatten().tolist()) == sizes.sort().values[: values.numel()].tolist()
