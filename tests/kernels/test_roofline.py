"""roofline: the tables of the kernels' specification, what torch counts of a small Llama, and how the ceilings are measured."""

import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM
from workbench_kernels import roofline
from workbench_kernels.roofline import Ceilings, Passes, Shape, Work, floor_seconds, serial_seconds, share_of_floor, step, total

H200 = Ceilings(788e12, 4.3e12)  # measured on one for the specification
MODELS = {
    "Qwen2.5-0.5B": Shape(24, 896, 4864, 14, 2, 64, 151936),
    "Qwen3-0.6B": Shape(28, 1024, 3072, 16, 8, 128, 151936),
    "Llama-3.2-1B": Shape(16, 2048, 8192, 32, 8, 64, 128256),
    "Qwen3-1.7B": Shape(28, 2048, 6144, 16, 8, 128, 151936),
    "Llama-3.2-3B": Shape(28, 3072, 8192, 24, 8, 128, 128256),
    "Qwen3-4B": Shape(36, 2560, 9728, 32, 8, 128, 151936),
    "Llama-3.1-8B": Shape(32, 4096, 14336, 32, 8, 128, 128256),
}
TABLE = """
| Qwen2.5-0.5B | 358M | 2.39 | 3.03 | 1.37 | 23% | 330k | 210k | 236k | 188k |
| Qwen3-0.6B | 440M | 3.33 | 4.22 | 1.67 | 19% | 237k | 160k | 176k | 144k |
| Llama-3.2-1B | 973M | 5.55 | 7.04 | 1.75 | 19% | 142k | 110k | 121k | 88k |
| Qwen3-1.7B | 1409M | 7.91 | 10.0 | 2.75 | 16% | 99.6k | 76k | 82k | 62k |
| Llama-3.2-3B | 2819M | 14.4 | 18.2 | 3.76 | 11% | 54.8k | 44.8k | 47.3k | 34.9k |
| Qwen3-4B | 3633M | 18.6 | 23.6 | 5.22 | 8% | 42.4k | 34.3k | 35.7k | 27.2k |
| Llama-3.1-8B | 6979M | 32.4 | 41.1 | 6.49 | 6% | 24.3k | 20.9k | 21.5k | 15.7k |
"""  # section 6 of the specification
UNITS = {"M": 1e6, "k": 1e3, "%": 1e-2}
LENGTH, RANK, TOKENS = 2048, 32, 16_384


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.strip().splitlines()]


def as_printed(value: float, like: str) -> str:
    """A number with as many decimals, and the unit, of what stands in the table."""
    unit = like[-1] if like[-1] in UNITS else ""
    decimals = len(like.rstrip("Mk%").partition(".")[2])
    return f"{value / UNITS.get(unit, 1):.{decimals}f}{unit}"


def tokens_per_s(shape: Shape, **given: float) -> float:
    return TOKENS / serial_seconds(total(step(shape, TOKENS, LENGTH, **given).values()), H200)


@pytest.mark.parametrize("row", cells(TABLE), ids=lambda row: row[0])
def test_every_row_of_the_specifications_table(row: list[str]) -> None:
    name, *printed = row
    shape, parts = MODELS[name], step(MODELS[name], TOKENS, LENGTH, RANK)
    work, head = total(parts.values()), parts["head"]
    found = [
        shape.layers * sum(out * into for out, into in shape.linears()),
        work.flops / TOKENS / 1e9,
        work.flops / H200.flops / TOKENS * 1e6,
        (work.bytes - head.bytes) / H200.bytes_per_s / TOKENS * 1e6,
        head.flops / work.flops,
        TOKENS / floor_seconds(work, H200),
        tokens_per_s(shape, rank=RANK),
        tokens_per_s(shape, rank=RANK, supervised=0.5),
        tokens_per_s(shape),
    ]
    assert [as_printed(value, like) for value, like in zip(found, printed, strict=True)] == printed


@pytest.mark.parametrize(
    "name, statistics, with_gradient",
    [("Qwen2.5-0.5B", "2.83", "8.56"), ("Qwen3-0.6B", "3.23", "9.36"), ("Llama-3.2-1B", "5.46", "13.4"), ("Qwen3-4B", "8.09", "19.1"),
     ("Llama-3.1-8B", "10.9", "24.3")],
)  # fmt: skip
def test_the_head_of_8192_supervised_tokens(name: str, statistics: str, with_gradient: str) -> None:
    head = roofline.linear_cross_entropy(8192, MODELS[name].width, MODELS[name].vocabulary)
    assert as_printed(1e3 * floor_seconds(head.forward, H200), statistics) == statistics
    assert as_printed(1e3 * serial_seconds(total(head), H200), with_gradient) == with_gradient


@pytest.mark.parametrize(
    "name, printed",
    [("Qwen2.5-0.5B", "13.7 20.5 111 222 15.6 15.6"), ("Llama-3.2-1B", "31 47 187 375 39 39"), ("Llama-3.1-8B", "62 94 328 655 78 78")],
)
def test_elementwise_ops_of_16384_tokens(name: str, printed: str) -> None:
    shape = MODELS[name]
    ops: list[Passes] = [
        roofline.rms_norm(TOKENS, shape.width),
        roofline.swiglu(TOKENS, shape.ff, again=True),
        roofline.qk_rope(TOKENS, shape.heads, shape.kv, shape.head),
    ]
    found = [1e6 * floor_seconds(work, H200) for op in ops for work in op]
    assert [as_printed(value, like) for value, like in zip(found, printed.split(), strict=True)] == printed.split()


def test_what_an_op_need_not_do_costs_nothing() -> None:
    """Norms before the rotation need q and k once more, 117 µs for Qwen3-4B; h that is kept need not be written again."""
    assert as_printed(1e6 * floor_seconds(roofline.qk_rope(TOKENS, 32, 8, 128, normed=True).backward, H200), "117") == "117"
    assert roofline.swiglu(6, 7).backward.bytes == 5 * 2 * 6 * 7


def test_torch_counts_the_same_products() -> None:
    """All weights of a small Llama. Its plain attention computes what is masked too, and keeps its scores: 3 × 4 where ours has 3.5 × 2."""
    shape, rows, length = Shape(3, 32, 48, 4, 2, 16, 100), 2 * 24, 24
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.ff, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv, head_dim=shape.head, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids = torch.randint(shape.vocabulary, (2, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    parts = step(shape, rows, length)
    assert counter.get_total_flops() == parts["linears"].flops + parts["head"].flops + parts["attention"].flops * 12 / 7
    matrices = {tuple(weight.shape) for weight in model.model.layers[0].parameters() if weight.ndim > 1}
    assert matrices == set(shape.linears())


def test_twice_the_tokens_are_twice_the_work_and_what_has_no_label_costs_no_head() -> None:
    shape = MODELS["Qwen2.5-0.5B"]
    one, two, unlabelled = step(shape, 1000, LENGTH, RANK), step(shape, 2000, LENGTH, RANK), step(shape, 1000, LENGTH, RANK, supervised=0)
    assert total(two.values()).flops == pytest.approx(2 * total(one.values()).flops)
    assert unlabelled["head"] == Work() and {**one, "head": Work()} == unlabelled
    longer = step(shape, 1000, 2 * LENGTH, RANK)
    assert longer["attention"].flops == 2 * one["attention"].flops and longer["attention"].bytes == one["attention"].bytes


def test_the_ops_beside_a_step() -> None:
    """AdamW on 10 numbers: four float32 in and three out; on 10 entries of a bfloat16 weight also a gradient and a weight of 2 bytes, two
    readings of a place of 8, and the float32 gradient written between."""
    assert roofline.adamw(10).bytes == 10 * 4 * 7
    assert roofline.masked_adamw(10).bytes == 10 * (4 * 7 + 2 + 2 + 8 + 8 + 4)
    assert roofline.sinkhorn(3, 4, 5, 7).bytes == 3 * 4 * 5 * 4 * 2 * 7
    assert (
        roofline.logit_spread(2, 3, 5).flops == 2 * 2 * 2 * 3 * 5 and roofline.logit_spread(2, 3, 5, moves=True).flops == 3 * 2 * 2 * 3 * 5
    )


def test_floors() -> None:
    """Two seconds of arithmetic and three of traffic."""
    work, ceilings = Work(20, 12), Ceilings(10, 4)
    assert floor_seconds(work, ceilings) == 3 and serial_seconds(work, ceilings) == 5 and share_of_floor(10, work, ceilings) == 0.5


def test_ceilings_are_what_was_done_over_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([0.25, 0.125])
    monkeypatch.setattr(roofline, "_seconds", lambda run, device: run() is not None and next(taken))
    found = roofline.measured_ceilings(torch.device("cpu"), torch.bfloat16)
    assert found == Ceilings(2 * 512**3 / 0.25, 2 * 2**25 / 0.125)


def test_time_is_a_median_of_samples_that_are_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of half a millisecond by a clock of our own: the first is slow, and so is one of the samples."""
    now, runs = [0.0], [0]

    def run() -> None:
        runs[0] += 1
        now[0] += 9.0 if runs[0] in (1, 8) else 5e-4

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert roofline._seconds(run, torch.device("cpu")) == pytest.approx(5e-4)
    assert runs[0] == 2 + 5 * 4


def test_this_machine_has_ceilings() -> None:
    found = roofline.measured_ceilings(torch.device("cpu"), torch.float32)
    assert 1e8 < found.flops < 1e16 and 1e7 < found.bytes_per_s < 1e14
