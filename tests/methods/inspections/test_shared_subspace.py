"""CLAIR over whole adapters: copies are inside, a stranger is named, in one matrix or in all, and no large matrix is ever made."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from pico import make_model
from safetensors.torch import save_file
from subjects import moved, subject, unchanged
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.picture import Finding
from workbench.materials.family import Member
from workbench.materials.lora import Factors
from workbench.materials.models import ModelRef
from workbench.materials.subject import Subject
from workbench.methods.inspections.shared_subspace import INSIDE, OUTSIDE, UNTOLD, SharedSubspace, named, size

MODULES = [f"model.layers.{layer}.self_attn.{part}" for layer in range(3) for part in ("q_proj", "v_proj")]
RANK = 2
Adapter = dict[str, tuple[Tensor, Tensor]]
Lay = Callable[[Sequence[Adapter]], Subject]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shapes() -> dict[str, tuple[int, int]]:
    return {module: tuple(make_model().get_submodule(module).weight.shape) for module in MODULES}  # type: ignore[misc]


def adapter(number: int, own: Sequence[str] = (), modules: Sequence[str] = MODULES) -> Adapter:
    """B and A by module; B lies in the group's subspace of that module, but in its own where named."""
    found = Adapter()
    for place, (module, (rows, columns)) in enumerate(shapes().items()):
        if module in modules:
            basis = torch.linalg.qr(random(rows, RANK, seed=place)).Q
            inside = basis @ random(RANK, RANK, seed=100 * number + place)
            left = random(rows, RANK, seed=5000 + 100 * number + place) if module in own else inside
            found[module] = left, random(RANK, columns, seed=900 + 100 * number + place)
    return found


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Lay:
    """A subject of LoRA adapters as peft saves them."""

    def build(adapters: Sequence[Adapter]) -> Subject:
        base = subject(tmp_path, pico_tokenizer, [unchanged]).refs[0]
        refs = []
        for number, own in enumerate(adapters):
            folder = tmp_path / f"adapter-{len(list(tmp_path.iterdir()))}-{number}"
            folder.mkdir()
            tensors = {
                f"base_model.model.{name}.lora_{side}.weight": given
                for name, two in own.items()
                for side, given in zip("BA", two, strict=True)
            }
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
            config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4, "target_modules": list(own), "base_model_name_or_path": base.path}
            (folder / "adapter_config.json").write_text(json.dumps(config))
            refs.append(ModelRef(f"tuned-{number}", f"tuned {number}", base.path, folder))
        return Subject(base, refs, {}, {})

    return build


def verdicts(finding: Finding) -> list[str]:
    return [row[2] for row in finding.tables[0].rows]


def scores(finding: Finding) -> list[float]:
    return [row[1] for row in finding.tables[0].rows]


def test_of_copies_all_lie_inside(lay: Lay) -> None:
    finding = drain(SharedSubspace().inspect(lay([adapter(0)] * 4)))
    assert max(scores(finding)) < 1e-6 and verdicts(finding) == [INSIDE] * 4
    assert finding.says == ["4 models share one subspace, with at most 0% outside of it."]


def test_one_stranger_among_seven_is_named_in_all_and_in_each_matrix(lay: Lay) -> None:
    finding = drain(SharedSubspace().inspect(lay([adapter(number, MODULES if number == 3 else ()) for number in range(7)])))
    assert verdicts(finding) == [OUTSIDE if number == 3 else INSIDE for number in range(7)]
    assert finding.numbers["tuned 3"]["outside"] > 0.8 and max(scores(finding)[:3] + scores(finding)[4:]) < 1e-3
    assert (
        finding.says[0].startswith("tuned 3 does not share the group's subspace")
        and "nothing about whether it is harmful" in finding.says[0]
    )
    assert not any("malicious" in sentence for sentence in finding.says)
    told = [row for row in finding.tables[1].rows if row[4]]
    assert len(told) == 7 * len(MODULES) and all((row[3] > 0.5) == (row[0] == "tuned 3") for row in told)
    assert [row[3:] for row in finding.tables[0].rows][3] == [len(MODULES)] * 2


def test_a_stranger_in_one_matrix_is_seen_there_and_weighs_what_it_changes_there(lay: Lay) -> None:
    module = MODULES[3]
    adapters = [adapter(number, [module] if number == 5 else ()) for number in range(7)]
    faint = [dict(own) for own in adapters]
    faint[5][module] = 1e-3 * adapters[5][module][0], adapters[5][module][1]
    some, hardly = (drain(SharedSubspace().inspect(lay(own))) for own in (adapters, faint))
    for finding in (some, hardly):
        seen = [row for row in finding.tables[1].rows if row[3] is not None and row[3] > 0.5]
        assert [(row[0], row[1], row[2]) for row in seen] == [("tuned 5", 1, "v_proj")]
        assert finding.tables[0].rows[5][4] == 1
    assert scores(some)[5] > 100 * scores(hardly)[5]


def test_the_score_of_an_adapter_is_its_whole_change_s_share_outside(lay: Lay) -> None:
    finding = drain(SharedSubspace().inspect(lay(adapters := [adapter(number, MODULES[:2] if number == 0 else ()) for number in range(5)])))
    outside = {(row[1], row[2]): row[3] for row in finding.tables[1].rows if row[0] == "tuned 0" and row[3] is not None}
    total = {
        (int(name.split(".")[2]), name.split(".")[4]): float((left @ right).square().sum()) for name, (left, right) in adapters[0].items()
    }
    expected = (sum(outside[key] ** 2 * total[key] for key in total) / sum(total.values())) ** 0.5
    assert scores(finding)[0] == pytest.approx(expected, rel=1e-5)


def test_matrices_that_fewer_than_three_change_tell_nothing(lay: Lay) -> None:
    alone = [adapter(number, modules=MODULES if number < 2 else MODULES[:1]) for number in range(4)]
    finding = drain(SharedSubspace().inspect(lay(alone)))
    told = {(row[1], row[2]) for row in finding.tables[1].rows if row[3] is not None}
    assert told == {(0, "q_proj")} and verdicts(finding) == [INSIDE] * 4
    assert [row[3] for row in finding.tables[0].rows] == [6, 6, 1, 1]
    finding = drain(SharedSubspace().inspect(lay(alone[:2])))
    assert verdicts(finding) == [UNTOLD] * 2 and "Choose more" in finding.says[0] and "outside" not in finding.numbers["tuned 0"]


def test_who_leaves_a_matrix_alone_has_no_score_there(lay: Lay) -> None:
    finding = drain(SharedSubspace().inspect(lay([adapter(number, modules=MODULES[number == 4 :]) for number in range(5)])))
    bare = [(row[0], row[1], row[2], row[4]) for row in finding.tables[1].rows if (row[1], row[2]) == (0, "q_proj") and row[3] is None]
    assert bare == [("tuned 4", 0, "q_proj", False)] and verdicts(finding) == [INSIDE] * 5


def test_where_half_are_strangers_nobody_is_named(lay: Lay) -> None:
    finding = drain(SharedSubspace().inspect(lay([adapter(number, MODULES if number < 3 else ()) for number in range(5)])))
    assert verdicts(finding) == [UNTOLD] * 5 and "Half of these" in finding.says[0]


@pytest.mark.parametrize(("given", "flag", "outside"), [
    ([0.1, 0.2, 0.9, 0.15], "score", [2]),
    ([0.1, 0.2, 0.45, 0.15], "score", []),
    ([0.1, 0.2, 0.46, 0.15], "largest gap", [2]),
    ([0.1, 0.2, 0.3, 0.15], "largest gap", []),
    ([0.6, 0.61, 0.95, None], "largest gap", [2]),
    ([0.0, 0.0, 0.0], "largest gap", []),
])  # fmt: skip
def test_who_is_named(given: list[float | None], flag: str, outside: list[int]) -> None:
    found = named(given, flag, 0.5)
    assert [place for place, verdict in enumerate(found) if verdict == OUTSIDE] == outside
    assert [verdict for verdict, score in zip(found, given, strict=True) if score is None] == [UNTOLD] * given.count(None)
    assert INSIDE in found


def test_a_whole_model_counts_by_the_strongest_directions_of_its_change(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    def low(number: int, inside: bool = True) -> Callable[..., None]:
        def change(model: torch.nn.Module) -> None:
            for name, (left, right) in adapter(number, () if inside else MODULES).items():
                model.get_submodule(name).weight.add_(left @ right)

        return change

    laid = subject(tmp_path, pico_tokenizer, [*map(low, range(4)), low(9, inside=False)])
    finding = drain(SharedSubspace(directions=RANK).inspect(laid))
    assert verdicts(finding) == [INSIDE] * 4 + [OUTSIDE] and max(scores(finding)[:4]) < 1e-2
    assert finding.numbers["tuned 0"]["matrices changed"] == len(MODULES)


def test_an_adapter_s_matrices_are_never_written_out(lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    laid = lay([adapter(number) for number in range(3)])
    assert laid.members
    monkeypatch.setattr(Member, "rows", lambda *given: pytest.fail("a whole matrix was read"))
    assert verdicts(drain(SharedSubspace().inspect(laid))) == [INSIDE] * 3


def test_the_size_of_a_change() -> None:
    left, right = random(9, 3, seed=1).double(), random(3, 5, seed=2).double()
    assert size(Factors(left, right)) == pytest.approx(float((left @ right).norm()))
    assert size(Factors(left[:, :0], right[:0])) == 0


def test_random_changes_have_no_group(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    finding = drain(SharedSubspace().inspect(subject(tmp_path, pico_tokenizer, [moved(0.02, seed) for seed in (1, 2, 3, 4)])))
    assert OUTSIDE not in verdicts(finding)
