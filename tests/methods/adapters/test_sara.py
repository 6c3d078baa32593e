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
        places = attachment.state()[f"{name}/index"].tolist()
        assert places == sorted(places)
        assert sorted(values.abs().flatten().tolist()) == sizes.sort().values[: values.numel()].tolist()


def test_the_smallest_share_moves_one_of_each_matrix() -> None:
    adapter = SaRA(share=1e-6)
    attachment = adapter.attach(make_model(), seed=0)
    assert {values.numel() for _, values in attachment.trained()} == {1}
    assert adapter.cost(make_model()).trained == len(attachment.trained())
