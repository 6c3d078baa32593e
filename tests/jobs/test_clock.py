"""The clock of a run: parts that add up, looks that are rare, tokens without padding, and whether a step moved anything."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from workbench.core.spec import TrainSpec
from workbench.jobs import clock as module
from workbench.jobs.batches import Batches
from workbench.jobs.clock import Clock, held
from workbench.jobs.schedule import begun
from workbench.materials.templates import Encoded
from workbench.methods.adapters.lora import LoRA
from workbench.methods.updates.adamw import AdamW


class Time:
    """A clock's `time` that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    passing = Time()
    monkeypatch.setattr(module, "time", passing)
    return passing


def still() -> tuple[Any, Any]:
    """An attachment and a stepper that hold nothing."""
    empty = SimpleNamespace(trained=lambda: [], model=nn.Module())
    return empty, SimpleNamespace(state=lambda: {})


def window(*lengths: int, learnt: int = 1) -> list[dict[str, torch.Tensor]]:
    rows = [Encoded(list(range(length)), [False] * (length - learnt) + [True] * learnt, 0) for length in lengths]
    spec = TrainSpec(batch_size=len(rows), accumulate=1)
    return Batches.of(rows, spec, 0).window(1)


def step(clock: Clock, time: Time, number: int, probes: float = 0.0) -> dict[str, float]:
    """One step: 2 s to draw, 3 s forward with 5 s backward inside, 7 s to move, 1 s that nobody names; and the probes' seconds."""
    clock.begin(number)
    with clock.part("draw"):
        clock.counted(window(4, 8))
        time.now += 2
    with clock.part("forward"):
        time.now += 1
        with clock.part("backward"):
            time.now += 5
        time.now += 2
    if probes:
        with clock.part("probes"):
            time.now += probes
    with clock.stepping([]):
        time.now += 7
    time.now += 1
    return clock.end(*still())


def test_parts_nest_and_add_up_to_the_step(time: Time) -> None:
    clock = Clock()
    values = step(clock, time, 2, probes=4)
    parts = {name.removeprefix("step_ms/"): value for name, value in values.items() if name.startswith("step_ms/")}
    assert parts == {"rest": 1000, "draw": 2000, "forward": 3000, "backward": 5000, "probes": 4000, "optimizer": 7000}
    assert clock.seconds == sum(parts.values()) / 1000 == 22 and clock.tokens == 12
    assert values["tokens_per_s"] == 12 / 22


def test_one_step_in_ten_is_looked_at_and_the_first_is_not(time: Time) -> None:
    clock = Clock()
    told = {number: step(clock, time, number) for number in range(1, 24)}
    assert [number for number, values in told.items() if "step_ms/forward" in values] == [2, 12, 22]
    assert all(values["tokens_per_s"] == 12 / 18 and "padding_share" in values for values in told.values())


def test_probes_are_told_as_the_mean_of_the_steps_since_the_last_look(time: Time) -> None:
    """They are read where nobody looks: 6 s at step 10 are 0.6 s a step, and they are none of the other parts'."""
    clock = Clock()
    told = {number: step(clock, time, number, probes=6 if number == 10 else 0) for number in range(1, 23)}
    assert [told[number]["step_ms/probes"] for number in (2, 12, 22)] == [0, pytest.approx(600), 0]
    assert told[12]["step_ms/rest"] == 1000


def test_the_first_step_warms_the_probes_up(time: Time) -> None:
    clock = Clock()
    step(clock, time, 1, probes=50)
    assert step(clock, time, 2, probes=1)["step_ms/probes"] == 1000
    assert step(Clock(), time, 12, probes=3)["step_ms/probes"] == 3000, "a run that goes on at a step that is looked at has no other"


def test_what_happens_between_two_steps_is_no_part(time: Time) -> None:
    """An evaluation reads probes too."""
    clock = Clock()
    step(clock, time, 1)
    with clock.part("probes"):
        time.now += 50
    assert step(clock, time, 2)["step_ms/probes"] == 0


def test_a_part_that_fails_gives_the_time_back_to_the_one_around(time: Time) -> None:
    clock = Clock()
    clock.begin(2)
    clock.counted(window(4))
    with pytest.raises(ValueError), clock.part("forward"):
        time.now += 1
        raise ValueError
    time.now += 2
    values = clock.end(*still())
    assert (values["step_ms/forward"], values["step_ms/rest"]) == (1000, 2000)


def test_a_gpu_is_waited_for_only_where_a_step_is_looked_at_or_a_probe_is_read(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = list[float]()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(time.now))
    clock = Clock()
    step(clock, time, 3)
    assert not waited
    step(clock, time, 4, probes=1)
    assert len(waited) == 2
    step(clock, time, 12)
    assert len(waited) > 8


def test_tokens_are_counted_without_what_fills_up() -> None:
    """Rows of 4 and 8 in one batch are 12 tokens in 16 places; each learns its last 4, but for the first token, which nothing predicts."""
    clock = Clock()
    clock.begin(1)
    given = window(4, 8, learnt=4)
    assert clock.counted(given) is given
    values = clock.end(*still())
    assert clock.tokens == 12 and values["padding_share"] == pytest.approx(4 / 16) and values["learnt_share"] == pytest.approx(7 / 12)


def test_packed_rows_are_counted_row_by_row() -> None:
    """Rows of 4, 8 and 3 into packs of at most 12: one is full, the other holds 3; no row learns its own first token."""
    rows = [Encoded(list(range(length)), [True] * length, 0) for length in (4, 8, 3)]
    spec = TrainSpec(batch_size=2, packing=True, data={"max_length": 12})
    clock = Clock()
    clock.begin(1)
    clock.counted(Batches.of(rows, spec, 0).window(1))
    values = clock.end(*still())
    assert clock.tokens == 15 and values["padding_share"] == pytest.approx(9 / 24) and values["learnt_share"] == pytest.approx(12 / 15)


def moved(change: Any, *tensors: torch.Tensor) -> float | None:
    trained = [(str(place), nn.Parameter(tensor.clone())) for place, tensor in enumerate(tensors)]
    clock = Clock()
    clock.begin(2)
    clock.counted(window(4))
    with clock.stepping(trained), torch.no_grad():
        change(*(parameter for _, parameter in trained))
    return clock.end(*still()).get("tensors_moved")


def test_the_share_of_the_tensors_that_a_step_moved() -> None:
    matrix, vector = torch.randn(5, 7), torch.randn(6)
    assert moved(lambda a, b: None, matrix, vector) == 0
    assert moved(lambda a, b: a.add_(1), matrix, vector) == 0.5
    assert moved(lambda a, b: (a.mul_(2), b.mul_(2)), matrix, vector) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_last_bit_of_one_number_is_a_move(dtype: torch.dtype) -> None:
    def last_bit(matrix: torch.Tensor) -> None:
        matrix[3, 2] = torch.nextafter(matrix[3, 2], matrix[3, 2] + 1)

    given = torch.randn(5, 7).to(dtype)
    assert moved(last_bit, given) == 1 and moved(lambda matrix: matrix.add_(0), given) == 0


def test_rows_that_change_places_or_change_against_one_another_have_moved() -> None:
    given = torch.randn(4, 6)
    assert moved(lambda matrix: matrix.copy_(matrix.flip(0).clone()), given) == 1
    assert moved(lambda matrix: (matrix[0].add_(2.0**-20), matrix[1].sub_(2.0**-20)), torch.ones(4, 6)) == 1


def test_nothing_is_compared_where_nobody_looks() -> None:
    clock = Clock()
    clock.begin(3)
    clock.counted(window(4))
    with clock.stepping([("a", nn.Parameter(torch.ones(2)))]):
        pass
    assert "tensors_moved" not in clock.end(*still())


def test_of_a_lora_only_b_moves_in_its_first_step_and_both_in_its_second(pico_model: Any) -> None:
    """A has no gradient as long as B is zero; so the first look is at step 2."""
    attachment = LoRA(rank=4, dropout=0).attach(pico_model, 0)
    stepper, clock, told = begun(AdamW(lr=1e-2), attachment, {}), Clock(), []
    for _ in range(2):
        attachment.model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
        clock.begin(2)  # looks at both
        clock.counted(window(4))
        with clock.stepping(attachment.trained()):
            stepper.step(1.0, lambda: 0.0)
        told.append(clock.end(attachment, stepper))
    assert [values["tensors_moved"] for values in told] == [0.5, 1.0]
    trained = sum(parameter.numel() for _, parameter in attachment.trained())
    assert held(attachment, stepper)["trained"] == 4 * trained, "float32"
    assert held(attachment, stepper)["optimizer"] == pytest.approx(8 * trained, rel=0.01), "two moments, and a count for each tensor"
    assert told[1]["memory_gb/weights"] == pytest.approx(4e-9 * sum(p.numel() for p in pico_model.parameters() if not p.requires_grad))
