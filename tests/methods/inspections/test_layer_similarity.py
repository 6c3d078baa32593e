"""Layer similarity: blind to rotations, near 0 for what has nothing in common even with few rows, and low where a planted change is."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from subjects import moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.materials.cka import alignment
from workbench.methods.inspections.layer_similarity import Kernel, LayerSimilarity, directions


def cka(one: torch.Tensor, other: torch.Tensor, kernel: Kernel = "inner products", without: int = 0) -> float:
    return float(torch.dot(*directions([one, other], kernel, without)))


def test_it_is_blind_to_rotation_scale_and_shift() -> None:
    torch.manual_seed(0)
    states = torch.randn(40, 8, dtype=torch.float64)
    turned, _ = torch.linalg.qr(torch.randn(12, 8, dtype=torch.float64))
    assert cka(states, states) == pytest.approx(1)
    assert cka(states, 3 * states @ turned.T + 5) == pytest.approx(1)
    assert cka(states, states * torch.tensor([9.0] + [1.0] * 7)) < 0.9


def test_by_distances_too_and_one_long_state_weighs_less() -> None:
    torch.manual_seed(0)
    states = torch.randn(40, 8, dtype=torch.float64)
    turned, _ = torch.linalg.qr(torch.randn(12, 8, dtype=torch.float64))
    assert cka(states, 3 * states @ turned.T + 5, "distances") == pytest.approx(1)
    assert cka(states, states * torch.tensor([9.0] + [1.0] * 7), "distances") < 0.9
    found = [cka(torch.randn(20, 200), torch.randn(20, 200), "distances") for _ in range(40)]
    assert abs(sum(found) / 40) < 0.03
    longer = states.clone()
    longer[0] *= 40
    assert cka(states, longer, "distances") > 0.9 > 0.5 > cka(states, longer)


def test_what_the_strongest_component_hides_shows_without_it() -> None:
    """Two states that share one strong direction of rows and nothing else."""
    torch.manual_seed(0)
    shared = 30 * torch.randn(60, 1, dtype=torch.float64) @ torch.nn.functional.normalize(torch.ones(1, 8, dtype=torch.float64))
    one, other = (shared + torch.randn(60, 8, dtype=torch.float64) for _ in range(2))
    assert cka(one, other) > 0.99 and abs(cka(one, other, without=1)) < 0.15
    assert cka(one, 3 * one + 5, without=1) == pytest.approx(1)


def test_what_has_nothing_in_common_is_near_0_also_with_fewer_rows_than_numbers() -> None:
    torch.manual_seed(0)
    found = [cka(torch.randn(20, 200), torch.randn(20, 200)) for _ in range(40)]
    assert abs(sum(found) / 40) < 0.03
    assert alignment([torch.randn(20, 200), torch.randn(20, 200)])[0, 1] > 0.8, "the biased one, whatever the states"


def test_it_is_the_unbiased_estimate_written_out() -> None:
    """⟨K̃, L̃⟩ is n(n−3) times HSIC₁ of Song et al. (2012)."""
    torch.manual_seed(0)

    def hsic(one: torch.Tensor, other: torch.Tensor) -> float:
        k, m = ((states @ states.T).fill_diagonal_(0) for states in (one, other))
        n, ones = len(k), torch.ones(len(k), dtype=k.dtype)
        return float((k @ m).trace() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    one = torch.randn(15, 6, dtype=torch.float64)
    other = one[:, :4] + torch.randn(15, 4, dtype=torch.float64)
    assert cka(one, other) == pytest.approx(hsic(one, other) / (hsic(one, one) * hsic(other, other)) ** 0.5)


def test_states_that_are_the_same_for_all_rows_have_nothing_in_common_with_anything() -> None:
    assert cka(torch.ones(6, 3), torch.randn(6, 3)) == 0


def test_a_planted_change_is_found(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    def last_block(model: LlamaForCausalLM) -> None:
        draw = torch.Generator().manual_seed(3)
        weight = model.model.layers[-1].mlp.down_proj.weight
        weight.add_(torch.randn(weight.shape, generator=draw))

    laid = subject(tmp_path, pico_tokenizer, [last_block, unchanged], count=40)
    finding = drain(LayerSimilarity().inspect(laid))
    tables = {table.name: table for table in finding.tables}
    own = [row[2] for row in tables["against the base"].rows if row[0] == "tuned 0"]
    assert own[:2] == pytest.approx([1, 1]) and own[2] < 0.9
    assert f"lowest in layer 2 ({own[2]:.3f})" in finding.says[0]
    within = {tuple(row[:3]): row[3] for row in tables["layers"].rows}
    assert len(within) == 3 * 9 and all(within[label, 1, 1] == pytest.approx(1) for label in ("base", "tuned 0", "tuned 1"))
    assert within["tuned 1", 0, 2] == pytest.approx(within["base", 0, 2])
    delta = {(row[0], row[1]): row[2] for row in tables["dynamics"].rows}
    assert delta["base", 1] == pytest.approx((within["base", 0, 1] + within["base", 1, 2]) / 2)
    assert delta["base", 2] == pytest.approx(within["base", 1, 2])


def test_it_reads_the_end_of_the_prompts_alone(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.02)], count=8)
    finding = drain(LayerSimilarity().inspect(laid))
    states = []
    for row in laid.rows[""]:
        prompt = row.ids[: row.trained.index(True)]
        with torch.no_grad():
            states.append(make_model()(torch.tensor([prompt]), output_hidden_states=True).hidden_states[1][0, -1])
            states.append(laid.tuned(0)(torch.tensor([prompt]), output_hidden_states=True).hidden_states[1][0, -1])
    expected = cka(torch.stack(states[::2]), torch.stack(states[1::2]))
    assert finding.tables[0].rows[0] == ["tuned 0", 0, pytest.approx(expected, abs=1e-5)]


def test_three_rows_are_too_few(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(WorkbenchError, match="Read more rows"):
        drain(LayerSimilarity().inspect(subject(tmp_path, pico_tokenizer, [moved(0.02)], count=3)))


def test_leaving_components_out_wants_more_rows_and_the_base_is_still_itself(
    tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    how = LayerSimilarity(kernel="distances", without=3)
    with pytest.raises(WorkbenchError, match=r"needs 7 of them.*Read more rows"):
        drain(how.inspect(subject(tmp_path, pico_tokenizer, [unchanged], count=6)))
    finding = drain(how.inspect(subject(tmp_path, pico_tokenizer, [unchanged, moved(0.05)], count=20)))
    assert finding.numbers["tuned 0"]["lowest CKA with the base"] == pytest.approx(1)
    assert finding.numbers["tuned 1"]["lowest CKA with the base"] < 0.999
