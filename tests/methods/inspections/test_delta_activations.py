"""Delta activations: the mean difference of the last states, directions that do not depend on how far, a map that keeps distances."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from subjects import Change, moved, subject, unchanged
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.events import Table
from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.methods.inspections import delta_activations
from workbench.methods.inspections.delta_activations import DeltaActivations, on_a_map, probed


def shifted(by: torch.Tensor) -> Change:
    """The state that the head reads differs in proportion to this, number by number: the gain of the final norm moves."""

    def shift(model: LlamaForCausalLM) -> None:
        model.model.norm.weight.add_(by)

    return shift


def found(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, *tuned: Change) -> tuple[Finding, dict[str, Table]]:
    finding = drain(DeltaActivations().inspect(subject(tmp_path, tokenizer, tuned, rows=())))
    return finding, {table.name: table for table in finding.tables}


def test_it_reads_the_state_behind_the_final_norm_at_the_end_of_the_prompt(pico_tokenizer: PreTrainedTokenizerFast) -> None:
    model = make_model()
    ids = pico_tokenizer(delta_activations.OPENINGS[0] + delta_activations.TASK, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        last = model(ids[:, : delta_activations.MOST], output_hidden_states=True).hidden_states[-1][0, -1]
    seen = probed(model, pico_tokenizer)
    assert seen.shape == (5, 32)
    torch.testing.assert_close(seen[0].float(), last)


def test_the_order_of_the_prompts_makes_no_difference(
    tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = found(tmp_path / "a", pico_tokenizer, moved(0.02))
    monkeypatch.setattr(delta_activations, "OPENINGS", delta_activations.OPENINGS[::-1])
    after, _ = found(tmp_path / "b", pico_tokenizer, moved(0.02))
    assert after.numbers["tuned 0"] == pytest.approx(before.numbers["tuned 0"])


def test_what_is_alike_is_found_alike_however_far_it_went(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    one, other = torch.zeros(32), torch.zeros(32)
    one[:16], other[16:] = 0.5, 0.5
    finding, tables = found(tmp_path, pico_tokenizer, shifted(one), shifted(3 * one), shifted(other))
    cosines = {(row[0], row[1]): row[2] for row in tables["cosines"].rows}
    assert cosines["tuned 0", "tuned 1"] == pytest.approx(1, abs=1e-6) and abs(cosines["tuned 0", "tuned 2"]) < 1e-6
    assert cosines["tuned 0", "tuned 0"] == pytest.approx(1)
    assert any("tuned 1 is most like tuned 0 (cosine 1.00)" in sentence for sentence in finding.says)
    distances = [finding.numbers[f"tuned {number}"]["distance from the base"] for number in (0, 1)]
    assert distances[1] == pytest.approx(3 * distances[0], rel=1e-5)


def test_two_that_add_up_to_a_third_are_named(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    one, other = torch.zeros(32), torch.zeros(32)
    one[:16], other[16:] = 0.5, 0.5
    _, tables = found(tmp_path, pico_tokenizer, shifted(one), shifted(other), shifted(one + other), shifted(-one))
    sums = {row[0]: row[1:] for row in tables["sums"].rows}
    assert sums["tuned 2"][:2] == ["tuned 0", "tuned 1"] and sums["tuned 2"][2] == pytest.approx(1, abs=1e-6)


def test_a_model_that_is_the_base_has_no_direction(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    finding, tables = found(tmp_path, pico_tokenizer, unchanged, moved(0.02), unchanged)
    assert [row[2] for row in tables["cosines"].rows if row[0] == "tuned 0"] == [None] * 3
    assert "as the base does" in finding.says[0] and tables["map"].rows[1][1:] == [0.0, 0.0, 0.0]
    assert next(row[3] for row in tables["sums"].rows if row[0] == "tuned 1") is None


def test_the_map_keeps_the_distances_of_models_that_lie_in_a_plane_with_the_base() -> None:
    torch.manual_seed(0)
    plane, _ = torch.linalg.qr(torch.randn(40, 2, dtype=torch.float64))
    vectors = torch.randn(5, 2, dtype=torch.float64) @ plane.T
    places, shown = on_a_map(vectors)
    assert shown == pytest.approx(1)
    torch.testing.assert_close(torch.cdist(places, places), torch.cdist(vectors, vectors))
    torch.testing.assert_close(places.norm(dim=1), vectors.norm(dim=1))


def test_the_map_shows_as_much_as_two_principal_components_of_the_models_and_the_base() -> None:
    vectors = torch.tensor([[4.0, 0, 0, 1], [4, 1, 0, 0], [4, 0, 2, 0], [5, 1, 1, 1]], dtype=torch.float64)
    parts = torch.linalg.eigvalsh(torch.cat([torch.zeros(1, 4, dtype=torch.float64), vectors]).T.cov())
    places, shown = on_a_map(vectors)
    assert shown == pytest.approx(float(parts[-2:].sum() / parts.sum()))
    assert float(torch.cat([torch.zeros(1, 2), places])[:, 0].var()) == pytest.approx(float(parts[-1]))


def test_one_model_lies_on_a_line_with_the_base() -> None:
    places, shown = on_a_map(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    assert places.tolist()[0] == pytest.approx([5.0, 0.0]) and shown == pytest.approx(1)
    places, shown = on_a_map(torch.zeros(2, 3, dtype=torch.float64))
    assert places.abs().max() == 0 and shown == 1
