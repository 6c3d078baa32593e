"""What `write_performance.py` shows of each result file: its table, and its goals held against what was found.

Every function takes a result as its benchmark wrote it. A table is a list of lines, the first of them its head. What it is not: text
around the tables, or pictures.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
Table = list[list[str]]


@dataclass(frozen=True)
class Goal:
    what: str
    found: str
    bound: str
    reached: bool


def short(value: Any) -> str:
    """Three digits; what is not there is a dash."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def between(each: list[float]) -> str:
    """[median, least, most] as `3.9 (3.1–4.4)`."""
    median, least, most = map(short, each)
    return f"{median} ({least}–{most})"


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def at_least(what: str, found: float, bound: float, told: str = "") -> Goal:
    return Goal(what, told or short(found), f"at least {short(bound)}", found >= bound)


def at_most(what: str, found: float, bound: float, told: str = "") -> Goal:
    return Goal(what, told or short(found), f"at most {short(bound)}", found <= bound)


def number_in(text: str) -> float:
    return float(re.findall(r"[\d.]+\d|\d", text)[0])


def own_goals(result: Result) -> Iterator[Goal]:
    """Of the benchmarks that hold their goals themselves."""
    for one in result["goals"]:
        bound = f"at least {short(one['at_least'])}" if "at_least" in one else f"at most {short(one['at_most'])}"
        yield Goal(one["what"], short(one["found"]), bound, one["reached"])


def no_goals(result: Result) -> Iterator[Goal]:
    return iter(())


# Training.


def train_cpu(result: Result) -> Table:
    lines = [["", "tokens a second", "tokens a CPU second", "times the trainer", "by CPU time", "gradient norm", "loss"]]
    for name, found in result["contenders"].items():
        wall, cpu = (between(found["over_trainer"][clock]) for clock in ("wall", "cpu"))
        loss = f"{found['loss_before']:.3f} → {found['loss_after']:.3f}"
        lines.append([name, short(found["tokens_per_s"]), short(found["tokens_per_cpu_s"]), wall, cpu, short(found["gradient"]), loss])
    return lines


def train_cpu_goals(result: Result) -> Iterator[Goal]:
    for what, found in result["goals"].items():
        times = f"{between(found['wall'])}, by CPU time {between(found['cpu'])}"
        yield at_least(f"{result['case']}: {what}, times as fast", found["wall"][0], found["goal"], times)


def train_gpu(result: Result) -> Table:
    lines = [["", "tokens a second", "times the trainer", "peak GiB", "gradient norm", "loss"]]
    for name, found in result["contenders"].items():
        over = between(found["over"]["trainer"]) if "trainer" in found["over"] else "–"
        loss = f"{found['loss_before']:.3f} → {found['loss_after']:.3f}"
        lines.append([name, between(found["tokens_per_s"]), over, short(found["peak_gib"]), short(found["gradient"]), loss])
    lines += [[f"*{what}*", short(value), "", "", "", ""] for what, value in result["floors"].items()]
    return lines + [[name, f"not measured: {why}", "", "", "", ""] for name, why in result["missing"].items()]


def head(result: Result) -> Table:
    lines = [["case", "way", "ms", "times transformers' form", "extra MiB", "value off by", "gradient off by"]]
    for row in result["rows"]:
        if "floor_ms" in row:
            lines.append([row["case"], "*floor of this GPU*", short(row["floor_ms"]), "", "", "", ""])
        if "products_ms" in row:
            most = between(row["transformers_over_products"])
            lines.append([row["case"], "*its products alone*", short(row["products_ms"]), most, "", "", ""])
        for name, way in row["ways"].items():
            speed = [short(way["ms"]), between(way["over_transformers"])] if way["right"] else ["**wrong**", "**wrong**"]
            off = [f"{way['value_off']:.0e}", "–" if way["gradient_off"] is None else f"{way['gradient_off']:.0e}"]
            lines.append([row["case"], name, *speed, short(way["extra_mib"]), *off])
    return lines + [["all", name, f"not measured: {why}", "", "", "", ""] for name, why in result["missing"].items()]


def probe(result: Result) -> Table:
    lines = [["run", "step, ms", "a reading, ms", "readings", "share of the run's time", "of segments of 20 steps"]]
    for name, run in result["runs"].items():
        _, least, most = run["cost_of_segments"]
        readings = f"{run['readings']} of {run['readings_due']} due"
        spread = f"{percent(least)} to {percent(most)}"
        lines.append([name, short(run["step_ms"]), short(run["reading_ms"]), readings, percent(run["cost"]), spread])
    return lines


def logit_spread(result: Result) -> Table:
    lines = [["head", "way", "ms", "times all logits", "extra MiB", "off by"]]
    for name, ways in result["spread"].items():
        for way in ("streamed", "all logits"):
            one = ways[way]
            speed = [short(one["ms"]), between(one["times_as_fast"])] if one["right"] else ["**wrong**", "**wrong**"]
            lines.append([name, way, *speed, short(one["extra_mib"]), f"{one['off']:.0e}"])
    return lines


def four_bits(result: Result) -> Table:
    lines = [["base", "a step, times float32's", "memory of the run, MB", "estimated, MB"]]
    for row in result["rows"]:
        lines.append([row["form"], between(row["step_over_float32"]), short(row["grew"] / 1e6), short(row["estimate"] / 1e6)])
    return lines


def beside_four_bits(result: Result) -> Table:
    lines = [["what learns", "validation loss at the start", "at the end", "forgotten, nats"]]
    for row in result["learning"]:
        lines.append([row["what"], *(between(row[name]) for name in ("at the start", "at the end", "forgotten"))])
    return lines


def preview(result: Result) -> Table:
    lines = [["base", "opening the models, s", "until the first scores, s", "until all scores, s", "until answers too, s"]]
    for name, case in result["cases"].items():
        lines.append([name, short(case["open_s"]), *(between(case[until]) for until in ("first_scores_s", "scores_s", "answers_s"))])
    return lines


def ops(result: Result) -> Table:
    lines = [["op", "torch, ms", "Triton, ms", "floor of this machine, ms", "share of the floor, torch", "Triton"]]
    for row in result["rows"]:
        if "floor_ms" in row:
            ms, shares = row["ms"], row["share_of_floor"]
            found = [short(row["floor_ms"]), *(percent(shares[way]) for way in ("reference", "triton"))]
            lines.append([row["op"], between(ms["reference"]), between(ms["triton"]), *found])
    return lines


def lora_layer(result: Result) -> Table:
    lines = [["layer", "pass", "without LoRA, ms", "peft, ms", "workbench, ms", "times as fast as peft"]]
    for row in result["rows"]:
        if "forward_ms" in row:
            for told, times in (("forward", ""), ("forward and backward", between(row["times_as_fast_as_peft"]))):
                ms = row[told.replace(" ", "_") + "_ms"]
                lines.append([row["op"], told, *(between(ms[way]) for way in ("frozen", "peft", "ours")), times])
    return lines


def ops_goals(result: Result) -> Iterator[Goal]:
    goals = [goal for row in result["rows"] for goal in [*row.get("goals", []), *([row["goal"]] if "goal" in row else [])]]
    return own_goals({"goals": goals})


# The page, data, merging, answering, memory.


def page_cost(result: Result) -> Table:
    lines = [["round", "headless, steps a second", "page open", "ratio"]]
    for number, one in enumerate(result["rounds"], 1):
        lines.append([str(number), short(one["headless"]), short(one["page"]), short(one["page"] / one["headless"])])
    return lines


def page_cost_goals(result: Result) -> Iterator[Goal]:
    found = between([result["median_ratio"], result["least"], result["most"]])
    yield at_least("steps a second with the page open, over headless", result["median_ratio"], number_in(result["goal"]), found)


def live_chart(result: Result) -> Table:
    lines = [["page", "first picture, s", "points drawn", "whole answer", "refresh", "refresh, ms"]]
    for number, page in enumerate(result["pages"], 1):
        whole, refresh = f"{short(page['whole_bytes'])} bytes", f"{short(page['refresh_bytes'])} bytes"
        drawn = short(page["points_drawn_of_the_loss"])
        lines.append([str(number), short(page["first_picture_s"]), drawn, whole, refresh, short(page["refresh_ms"])])
    return lines


def live_chart_goals(result: Result) -> Iterator[Goal]:
    slowest = max(page["first_picture_s"] for page in result["pages"])
    yield at_most(f"seconds to the first picture of {result['points']:,} points, slowest page", slowest, number_in(result["goal"]))


def data(result: Result) -> Table:
    names = ["CPU seconds", "wall seconds", "peak GB", "page ms", "slowest page ms", "near copies found"]
    lines = [[result["what"].split(";")[0], *names]]
    for name, found in result["contenders"].items():
        lines.append([name, *(["not installed"] + [""] * 5 if found is None else [short(found.get(one)) for one in names])])
    return lines


def data_goals(result: Result) -> Iterator[Goal]:
    """Of a million rows; a file of fewer is held only against what does not grow with them."""
    goals, ours, near = result["goals, for a million rows"], result["contenders"]["workbench"], result["contenders"]["near duplicates"]
    yield at_most("a page of rows, ms", ours["page ms"], goals["page ms"])
    yield at_least("near duplicates found, share of those planted", near["near copies found"], goals["near duplicates found"])
    if result["what"].startswith("1,000,000"):
        yield at_most("a million rows brought in, CPU seconds", ours["CPU seconds"], goals["ingest CPU seconds"])
        yield at_most("a million rows brought in, peak GB", ours["peak GB"], goals["ingest peak GB"])
        yield at_most("near duplicates of a million rows, CPU seconds", near["CPU seconds"], goals["near duplicates CPU seconds"])
        yield at_most("near duplicates of a million rows, peak GB", near["peak GB"], goals["near duplicates peak GB"])


def merge(result: Result) -> Table:
    lines = [["method", "workbench, s", "mergekit, s", "CPU s", "mergekit's", "peak MiB", "mergekit's", "numbers that differ"]]
    for row in result["rows"]:
        both = [short(row[who][key]) for key in ("wall_s", "cpu_s", "peak_mib") for who in ("ours", "mergekit")]
        lines.append([row["method"], *both, percent(row["numbers_that_differ"])])
    return lines


def merge_goals(result: Result) -> Iterator[Goal]:
    rows = {row["method"]: row["ours_over_mergekit"] for row in result["rows"]}
    for method, most in result["goals"]["wall over mergekit's"].items():
        yield at_most(f"merge by {method}: share of mergekit's time", rows[method]["wall_s"], most)
    worst = max(row["peak_mib"] for row in rows.values())
    yield at_most("merge: share of mergekit's peak memory, worst method", worst, result["goals"]["peak memory over mergekit's"])


def lora_merge(result: Result) -> Table:
    lines = [["matrix", "by factors, CPU s", "dense, CPU s", "share", "apart"]]
    for row in result["rows"]:
        seconds = row["cpu_s"]
        shape = " × ".join(map(str, row["shape"]))
        lines.append([shape, short(seconds["factors"]), short(seconds["dense"]), short(row["factors_over_dense"]), f"{row['apart']:.0e}"])
    return lines


def lora_merge_goals(result: Result) -> Iterator[Goal]:
    (bound,) = result["goals"].values()
    yield at_most("adapters merged by factors: share of the dense way's CPU time", result["rows"][-1]["factors_over_dense"], bound)


def generate(result: Result) -> Table:
    lines = [["model", "tokens", "together, s", "one after the other, s", "share of the time", "peak MB", "peak MB, one after the other"]]
    for row in result["rows"]:
        share, alone = row["time over generate's"], row["in processes of their own"]
        spread = between([share["median"], share["from"], share["to"]])
        peaks = [short(alone[who]["peak MB above the program"]) for who in ("ours", "generate")]
        lines.append([row["model"], row["tokens"], short(row["ours"]["seconds"]), short(row["generate"]["seconds"]), spread, *peaks])
    return lines


def generate_goals(result: Result) -> Iterator[Goal]:
    for row in result["rows"]:
        what = f"four answers, {row['model']}: share of the time of four generate calls"
        yield at_most(what, row["time over generate's"]["median"], number_in(result["goal"]))


def regions(result: Result) -> Table:
    lines = [["what moves", "numbers", "peak MB above the weights", "share of full tuning's"]]
    for name, one in result["found"].items():
        share = short(one["share of full tuning's"])
        lines.append([name, short(one["numbers that move"]), short(one["peak MB above the weights"]), share])
    return lines


def regions_goals(result: Result) -> Iterator[Goal]:
    share = result["found"]["entries"]["share of full tuning's"]
    yield at_most("5 % of the entries: share of full tuning's memory", share, number_in(result["goal"]))


def memory(result: Result) -> Table:
    lines = [["adapter", "rows × tokens", "numbers", "estimate, MB", "held, MB", "held over estimate", "as the process grows, MB"]]
    for row in result["rows"]:
        sizes = [short(row[key] / 1e6) for key in ("estimate", "held")]
        batch = f"{row['batch']} × {row['length']}"
        lines.append([row["adapter"], batch, row["precision"], *sizes, short(row["held_ratio"]), short(row["resident"] / 1e6)])
    return lines


def memory_goals(result: Result) -> Iterator[Goal]:
    worst = max(abs(1 - row["held_ratio"]) for row in result["rows"])
    yield at_most("memory held, how far from the estimate at worst", worst, 0.25)
