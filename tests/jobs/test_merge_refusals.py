"""Merges that do not come about: stopped, failed on the way, or refused before the first byte. Nothing is left behind."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from merged import reconfigure, refused, rewrite, run, spec_of

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Table
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge, preview
from workbench.materials import tensors

# Stopping and failing leave nothing behind.


@pytest.mark.parametrize("after", [1, 2, 5, 30, None])
def test_a_stopped_merge_leaves_nothing_and_can_be_started_again(after: int | None, make: Callable, workspace: Workspace) -> None:
    """After so many events, or when all but the last word is said; how many there are depends on the threads."""
    spec = spec_of(make("base"), make("a", 0.1))
    work: Iterator = merge(spec, workspace.run("0001"), workspace)
    for number, event in enumerate(work, 1):
        if number == after or isinstance(event, Table):
            break
    work.close()
    assert list(workspace.model().iterdir()) == []
    run(workspace, spec)


def test_numbers_that_are_not_finite_are_refused(make: Callable, workspace: Workspace) -> None:
    for bad in (float("nan"), float("inf")):
        broken = rewrite(make("a", 0.1), lambda held, bad=bad: held["model.norm.weight"].__setitem__(3, bad))
        for spec in (spec_of(make("base"), make("b", 0.1), broken), spec_of(broken, make("b", 0.1))):
            with pytest.raises(WorkbenchError, match=r"^a holds NaN or Inf in model\.norm\.weight\. A merge would carry it"):
                run(workspace, spec)
            with pytest.raises(WorkbenchError, match="NaN or Inf"):
                preview(spec, workspace)
    assert list(workspace.model().iterdir()) == []


def test_numbers_too_large_for_the_format_are_refused(make: Callable, workspace: Workspace) -> None:
    loud = rewrite(make("a"), lambda held: held["model.norm.weight"].mul_(1e6))
    with pytest.raises(
        WorkbenchError, match=r"merged model\.norm\.weight has numbers too large for F16: the largest is 1e\+06\. Use smaller"
    ):
        run(workspace, spec_of(make("base"), loud, dtype="float16"))
    assert list(workspace.model().iterdir()) == []


def test_a_disk_that_fills_up_is_told_and_swept(make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(self: object, name: str, data: object) -> None:
        written.append(data)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensors.ModelWriter, "write", full)
    with pytest.raises(WorkbenchError, match=r"not enough room on the disk for 'out': it needs 0\.2 MB"):
        run(workspace, spec_of(make("base"), make("a", 0.1)))
    assert list(workspace.model().iterdir()) == []


# Refusals.


def test_all_mistakes_come_at_once(make: Callable, workspace: Workspace) -> None:
    base = make("base")
    run(workspace, spec_of(base, base))
    given = [{"model": make("a", 0.1), "weight": 1}, {"model": "run:0099", "weight": -1}]
    with pytest.raises(SpecError) as caught:
        list(merge(MergeSpec.parse({"name": "out", "base": base, "models": given, "merge": "linear"}), workspace.run("1"), workspace))
    name, weights, missing = caught.value.mistakes
    assert name.startswith("name: there is a model called 'out' already. Choose another name, or remove ")
    assert weights.startswith("The weights add up to zero") and missing.startswith("models.1: There is no run 0099")


def test_a_method_says_how_many_models_it_needs(make: Callable, workspace: Workspace) -> None:
    assert refused(workspace, spec_of(make("base"), make("a", 0.1), method="model_stock")) == [
        "Model Stock needs at least 2 tuned models, and the spec names 1. Add models, or choose another method."
    ]


def test_models_of_other_families_and_shapes_are_refused(make: Callable, workspace: Workspace) -> None:
    base = make("base")
    assert refused(workspace, spec_of(base, reconfigure(make("a"), model_type="qwen3"))) == [
        "a is a 'qwen3' model and the base base is 'llama'. Merge only models tuned from one base."
    ]
    assert refused(workspace, spec_of(base, make("a", vocab_size=401))) == [
        "The vocabularies differ: model.embed_tokens.weight is 401×32 in a and 400×32 in the base base. "
        "Set `tokenizer` to union (all tokens) or base (the base's), and rows are matched by their tokens."
    ]
    wide = refused(workspace, spec_of(base, make("a", intermediate_size=48)))
    assert wide[0].startswith("The shapes differ: model.layers.0.mlp.down_proj.weight is 32×48 in a and 32×64 in the base base.")
    assert wide[3] == "6 more tensors of a differ in shape from the base base." and len(wide) == 4
    assert refused(workspace, spec_of(base, rewrite(make("a"), lambda held: held.pop("model.norm.weight")))) == [
        "a lacks model.norm.weight, which the base base has. Merge only models tuned from one base."
    ]
    more = refused(workspace, spec_of(base, make("a", num_hidden_layers=4)))
    assert more[0].startswith("a has 9 tensors (model.layers.3.input_layernorm.weight, model.layers.3.mlp.down_proj.weight, …), which the")


def test_weights_that_are_rounded_pickled_or_missing_are_refused(make: Callable, workspace: Workspace) -> None:
    base = make("base")
    quantised = reconfigure(make("a"), quantization_config={"quant_method": "gptq"})
    assert refused(workspace, spec_of(base, quantised))[0].startswith("models.0: a is quantised (gptq). Rounded weights cannot be merged")
    small = rewrite(make("b"), lambda held: held.update({"model.norm.weight": held["model.norm.weight"].to(torch.float8_e4m3fn)}))
    assert refused(workspace, spec_of(base, small))[0].startswith("models.0: b stores model.norm.weight as F8_E4M3. Only float32")
    weights = Path(make("c")) / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    assert "pytorch_model.bin, which can run code" in refused(workspace, spec_of(base, str(weights.parent)))[0]
    weights.with_name("pytorch_model.bin").unlink()
    assert "has no weights" in refused(workspace, spec_of(base, str(weights.parent)))[0]
    headless = reconfigure(make("d"), tie_word_embeddings=False)
    assert (
        "d says that its head is not tied to its embeddings, but has no lm_head.weight." in refused(workspace, spec_of(base, headless))[0]
    )


def test_models_that_cannot_be_read_are_refused(make: Callable, workspace: Workspace) -> None:
    base, broken = make("base"), make("a")
    assert "some/model is not on this machine, and a merge reads weight files." in refused(workspace, spec_of("some/model", base))[0]
    for text, words in [("{", "a has no readable config.json"), ("[]", "The config.json of a is not a mapping")]:
        (Path(broken) / "config.json").write_text(text)
        assert words in refused(workspace, spec_of(base, broken))[0]
    (Path(broken) / "model.safetensors").write_bytes(b"x")
    (Path(broken) / "config.json").write_text((Path(base) / "config.json").read_text())
    assert "is not a whole safetensors file" in refused(workspace, spec_of(base, broken))[0]
