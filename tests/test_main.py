"""The command line: the same jobs through the same runner and store, results on stdout, sentences on stderr, never a traceback."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from workbench.__main__ import app
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Finished, Made, Measured, Noted, Progress, Said, Started, Table
from workbench.core.job import Job
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs import ingest as bringing
from workbench.jobs import registry
from workbench.jobs.forecast import rows_table
from workbench.runs.store import Store
from workbench.runs.text import duration

ROOT = Path(__file__).parents[1]


def toy_train(spec, folder, workspace) -> Iterator[Event]:
    yield Started(spec.steps)
    yield Noted("The toy begins.")
    for step in range(1, spec.steps + 1):
        yield Measured(step, {"loss": 2.0 / step, "step_ratio": 0.5, "odd": float("nan")})
        yield Progress(step, spec.steps)
        if step == 3 and spec.name == "bad":
            raise WorkbenchError("The run has diverged. Lower the learning rate.")
        if step == 3 and spec.name == "defect":
            raise ValueError("shapes differ")
    (folder / "adapter").mkdir()
    yield Said(spec.steps, "model", "Where?", "In Kori.")
    yield Table("report", ["what", "value"], [["rows", 12], ["share", 0.25]])
    yield Made("adapter", str(folder / "adapter"), spec.steps)


def toy_merge(spec, folder, workspace) -> Iterator[Event]:
    yield Progress(3, 3, "tensors")
    yield Made("model", str(workspace.model(spec.name)))


def toy_compare(spec, folder, workspace) -> Iterator[Event]:
    for model in reversed(spec.models):
        yield Said(1, model, spec.prompt, "Ye", done=False)
        yield Said(2, model, spec.prompt, f"Yes, at {spec.temperature} with {spec.seed}.", [["Yes", -0.1, float("-inf")]])


def toy_finding(spec, folder, workspace) -> Iterator[Event]:
    yield Table("found", ["model", "value"], [["run 0001", 0.5]])
    yield Noted(f"Found by a {spec.kind}.")
    yield Finished("finished", "Found.")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    toys = {"train": Job(toy_train, "device"), "merge": Job(toy_merge, "host"), "compare": Job(toy_compare, "device")}
    toys |= {kind: Job(toy_finding, "device") for kind in ("inspect", "evaluate", "report")}
    for kind, job in toys.items():
        monkeypatch.setitem(registry.JOBS, kind, job)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text("kind: train\nname: toy\nsteps: 20\n")
    return path


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def plainly_refused(result: Result, *told: str, status: int = 1) -> None:
    assert result.exit_code == status and result.stdout == ""
    assert "Traceback" not in result.stderr
    for words in told:
        assert words in result.stderr


def test_train_prints_numbers_and_artifacts_and_the_way_there(home: Path, spec: Path) -> None:
    result = cli("train", spec, "--set", "steps=10")
    assert result.exit_code == 0, result.stderr
    assert "run 0001 · train · finished · step 10 of 10" in result.stdout
    assert "2 → 0.2" in result.stdout and str(home / "runs" / "0001" / "adapter") in result.stdout
    lines = result.stderr.splitlines()
    assert "The toy begins." in lines
    assert any("100%  step 10/10 · loss 0.2 · r 0.5" in line for line in lines)
    assert len(lines) <= 13 and "\r" not in result.stderr


def test_a_setting_is_varied_run_by_run_and_a_mistake_in_one_value_starts_none(home: Path, spec: Path) -> None:
    result = cli("train", spec, "--set", "steps=3", "--vary", "adapter.rank=2,4")
    assert result.exit_code == 0, result.stderr
    listed = json.loads(cli("runs", "--json").stdout)
    assert [(run["name"], run["spec"]["adapter"]["rank"]) for run in reversed(listed)] == [("toy · rank 2", 2), ("toy · rank 4", 4)]
    plainly_refused(cli("train", spec, "--vary", "adapter.rank=2,0"), "rank")
    plainly_refused(cli("train", spec, "--vary", "adapter.rank"), "NAME=A,B")
    plainly_refused(cli("train", "--resume", "0001", "--vary", "seed=1,2"), "--resume")
    assert len(json.loads(cli("runs", "--json").stdout)) == 2


def test_home_flag_wins_over_the_environment(home: Path, spec: Path, tmp_path: Path) -> None:
    assert cli("train", spec, "--home", tmp_path / "other").exit_code == 0
    assert (tmp_path / "other" / "workbench.duckdb").exists() and not home.exists()


def test_runs_and_show(home: Path, spec: Path) -> None:
    assert "No runs yet" in cli("runs").stdout
    assert cli("runs", "--json").stdout == "[]\n"
    cli("train", spec)
    listed = json.loads(cli("runs", "--json").stdout)
    assert [(run["id"], run["name"], run["kind"], run["status"], run["step"]) for run in listed] == [
        ("0001", "toy", "train", "finished", 20)
    ]
    assert listed[0]["spec"]["steps"] == 20
    assert listed[0]["metrics"] == {
        "loss": {"first": 2.0, "last": 0.1},
        "step_ratio": {"first": 0.5, "last": 0.5},
        "odd": {"first": "nan", "last": "nan"},
    }
    assert "2 → 0.1" in cli("runs").stdout
    for words in ("0001", "1", "run:0001"):
        shown = cli("show", words).stdout
        for part in ("name: toy", "finished", "> Where?\nIn Kori.", "share  0.25", "[info] The toy begins.", "adapter"):
            assert part in shown
    assert json.loads(cli("show", "1", "--json").stdout)["events"][0]["event"] == "Made"
    plainly_refused(cli("show", "0009"), "There is no run '0009'")


def test_a_failed_run_is_its_sentence_and_where_to_look(home: Path, spec: Path) -> None:
    result = cli("train", spec, "--set", "name=bad")
    plainly_refused(result, "The run has diverged. Lower the learning rate.\nSee: python -m workbench show 0001\n")
    plainly_refused(cli("train", spec, "--set", "name=defect"), "ValueError: shapes differ")
    shown = cli("show", "2")
    assert shown.exit_code == 0 and "Traceback (most recent call last)" in shown.stdout and "failed" in shown.stdout


def test_all_mistakes_of_a_spec_at_once(home: Path, spec: Path) -> None:
    spec.write_text("kind: train\nsteps: 0\nbatch_size: many\nstepps: 3\n")
    plainly_refused(cli("train", spec), "3 mistakes", "steps is 0; it must be at least 1", "batch_size", "stepps is not known here")
    assert not home.exists()


@pytest.mark.parametrize(
    "words, told",
    [
        (["train"], "Give either a spec file or --resume RUN"),
        (["train", "nowhere.yaml"], "There is no spec file nowhere.yaml"),
        (["train", "--resume", "0007"], "There is no run '0007'"),
        (["train", "--resume", "0007", "--set", "steps=1"], "--set cannot be used with --resume"),
        (["data", "ingest", "nowhere.csv", "--column", "prompt"], "not of the form ROLE=COLUMN"),
    ],
)
def test_mistakes_of_the_call_are_sentences(home: Path, words: list[str], told: str) -> None:
    plainly_refused(cli(*words), told)


def test_a_spec_of_another_kind_is_sent_to_its_command(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "merge.yaml"
    other.write_text("kind: merge\nname: both\nmodels: [{model: pocket}]\n")
    plainly_refused(cli("train", other), "This is a merge spec. Use: python -m workbench merge")
    merged = cli("merge", other)
    assert merged.exit_code == 0 and "models/both" in merged.stdout


def test_compare_prints_the_answers_in_the_order_asked_for(home: Path) -> None:
    words = ["compare", "--model", "pocket", "--model", "run:0001", "--prompt", "Is it?", "--temperature", "0.5", "--seed", "7"]
    result = cli(*words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "pocket\nYes, at 0.5 with 7.\n\nrun:0001\nYes, at 0.5 with 7.\n"
    answers = json.loads(cli(*words, "--json").stdout)["answers"]
    assert [answer["model"] for answer in answers] == ["pocket", "run:0001"]
    assert answers[0]["tokens"] == [["Yes", -0.1, "-inf"]]
    plainly_refused(cli(*words, "--max-tokens", "0"), "max_tokens is 0; it must be at least 1")


def test_resume_goes_on_with_the_same_run(home: Path, spec: Path) -> None:
    cli("train", spec, "--set", "name=bad")
    again = cli("train", "--resume", "0001")
    plainly_refused(again, "diverged")
    assert len(json.loads(cli("runs", "--json").stdout)) == 1


def test_methods_lists_the_whole_registry() -> None:
    listed = json.loads(cli("methods", "--json").stdout)
    lora = next(method for method in listed if (method["shelf"], method["name"]) == ("adapters", "lora"))
    assert set(lora) == {"name", "title", "shelf", "paper", "doc", "knobs"}
    assert lora["paper"].startswith("arXiv:") and any(knob["name"] == "rank" and knob["kind"] == "int" for knob in lora["knobs"])
    assert all(f"{method['name']} " in cli("methods").stdout for method in listed)


def test_data_says_what_was_found(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ingest(path, name, workspace, columns) -> Iterator[Event]:
        yield Progress(1, 2, "rows")
        yield Noted("One row could not be read.")
        yield Table("found", ["format", "rows"], [["alpaca", 2]])
        yield Made("data", str(workspace.data(name)))
        yield Finished("finished", f"{columns}")

    monkeypatch.setattr(bringing, "ingest", ingest)
    result = cli("data", "ingest", tmp_path / "my file (1).csv", "--column", "prompt=q")
    assert result.exit_code == 0, result.stderr
    assert "alpaca  2" in result.stdout and f"data: {home / 'data' / 'my-file-1'}" in result.stdout
    assert "{'prompt': 'q'}" in result.stdout and "One row could not be read." in result.stderr


def test_while_the_page_holds_the_database(home: Path, spec: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from workbench.runs.store import Store\n"
        "store = Store(Path(sys.argv[1])); store.create('train', 'the page is here', {}); print('held', flush=True); sys.stdin.read()"
    )
    home.mkdir()
    command = [sys.executable, "-c", holder, str(home / "workbench.duckdb")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout.readline() == "held\n"
        assert "the page is here" in cli("runs").stdout and "queued" in cli("show", "1").stdout
        plainly_refused(cli("train", spec), f"process {page.pid}", "close it first")


INTERRUPTED = """
import sys, time, types
from typing import Literal
import workbench.__main__ as main
from workbench.core.events import Measured, Progress, Started
from workbench.core.job import Job
from workbench.core.parts import Spec
from workbench.core.spec import SPECS

class Toy(Spec):
    kind: Literal["train"] = "train"
    name: str = ""
    steps: int = 1

def endless(spec, folder, workspace):
    yield Started(1000)
    try:
        for step in range(1, 1001):
            time.sleep(0.01)
            yield Measured(step, {"loss": 1.0})
            yield Progress(step, 1000)
    finally:
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "state").write_text("x")

SPECS["train"] = Toy
main._registry = dict  # the methods and torch are not needed here, and slow to import
sys.modules["workbench.jobs.registry"] = types.SimpleNamespace(JOBS={"train": Job(endless, "device")})
main.app(["train", sys.argv[1]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_and_keeps_a_checkpoint(home: Path, spec: Path, number: int) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    command = [sys.executable, "-c", INTERRUPTED, str(spec)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}  # a shell's background ignores Ctrl-C
    with subprocess.Popen(command, cwd=ROOT, env=environment, **hears, **pipes) as child:
        while "/1,000" not in (line := child.stderr.readline()):
            assert line, "it ended before it began"
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Stopping after the step at work" in err and "Traceback" not in err
    assert "stopped" in out and str(home / "runs" / "0001" / "checkpoint") in out
    with Store(home / "workbench.duckdb") as store:
        assert store.run("0001").status == "stopped"


def test_the_forecast_speaks_of_runs_on_record(home: Path) -> None:
    plainly_refused(cli("forecast"), "A forecast needs 4 finished runs", "data.most_rows")
    with Store(home / "workbench.duckdb") as store:
        for rows in (100, 200, 400, 800):
            run = store.create("train", "", TrainSpec(data={"most_rows": rows}).model_dump(mode="json"))
            store.append(run, rows_table(rows, 9), Measured(0, {"validation_loss": 4 / rows**0.5 + 0.5}), Finished("finished"))
    told = cli("forecast", "--rows", 10000)
    assert told.exit_code == 0 and "pocket on quickstart" in told.stdout and "With 10,000 rows about" in told.stdout
    (values,) = json.loads(cli("forecast", "--json").stdout)
    assert values["rows"] == 3200 and values["by_law"] < 0.65 and [one["rows"] for one in values["points"]] == [100, 200, 400, 800]
    plainly_refused(cli("forecast", "--model", "other"), "no finished training run")


@pytest.mark.parametrize("seconds, told", [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3725, "1 h 2 min")])
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_a_merge_does_not_wait_for_what_only_training_needs() -> None:
    """transformers' model code and peft take longer to import than many a merge takes to run."""
    wanted = (
        "import sys, workbench.jobs.merge; from workbench import shell; shell.registry('merges'); from workbench.jobs.registry import JOBS"
    )
    slow = "('transformers', 'peft', 'accelerate', 'scipy', 'gradio')"
    code = f"{wanted}; print([name for name in {slow} if name in sys.modules], sorted(shell.registry('merges')['merges'])[:1])"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[] ['arcee_fusion']"


@pytest.mark.parametrize(
    ("kind", "words", "spec"),
    [
        (
            "inspect",
            ["weight_change", "--model", "run:0001", "--model", "model:both", "--base", "pocket", "--set", "inspection.ranks=false"],
            {"models": ["run:0001", "model:both"], "base": "pocket", "inspection": {"method": "weight_change", "ranks": False}},
        ),
        (
            "evaluate",
            [
                "--model",
                "pocket",
                "--model",
                "run:0001",
                "--data",
                "known",
                "--data",
                "exam",
                "--scorer",
                "contains",
                "--rows",
                5,
                "--task",
                "arc",
            ],
            {
                "models": ["pocket", "run:0001"],
                "sets": [{"data": "known", "scorer": "contains", "most_rows": 5}, {"data": "exam"}],
                "tasks": ["arc"],
            },
        ),
        ("report", ["run:0001", "--base", "pocket", "--pattern", "x+"], {"model": "run:0001", "base": "pocket", "sets": []}),
    ],
)
def test_what_is_found_is_printed_sentences_first(home: Path, kind: str, words: list[object], spec: dict[str, Any]) -> None:
    result = cli(kind, *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"Found by a {kind}.\n") and "run 0001  0.5" in result.stdout
    (run,) = json.loads(cli("runs", "--json").stdout)

    def holds(found: Any, wanted: Any) -> bool:
        if isinstance(wanted, dict):
            return all(holds(found[name], value) for name, value in wanted.items())
        if isinstance(wanted, list):
            return len(found) == len(wanted) and all(map(holds, found, wanted))
        return found == wanted

    assert holds(run["spec"], spec)
    told = json.loads(cli(kind, *words, "--json").stdout)
    assert told["says"] == [f"Found by a {kind}."] and told["tables"][0]["rows"] == [["run 0001", 0.5]]


def test_an_inspection_that_is_not_there_is_a_sentence_with_those_that_are(home: Path) -> None:
    plainly_refused(cli("inspect", "nothing", "--model", "run:0001"), "there is no inspection called 'nothing'", "weight_change")


def test_show_tells_the_speed_of_a_run_and_refuses_it_where_nothing_was_trained(home: Path) -> None:
    with Store(Workspace(home).database) as store:
        for moved in (1.0, 0.0):
            run = store.create("train", "first", {})
            store.append(run, *(Measured(step, {"tokens_per_s": 7000.0, "grad_norm": 1.0, "tensors_moved": moved}) for step in (1, 2, 3)))
    assert "speed\n7,000 tokens/s without padding, the median of steps 2 to 3.\n" in cli("show", "0001").stdout
    assert json.loads(cli("show", "0001", "--json").stdout)["performance"]["tokens_per_s"] == 7000.0
    refused = cli("show", "0002").stdout
    assert "No speed is shown: step 3 changed nothing" in refused and "7,000 tokens/s" not in refused
    assert json.loads(cli("show", "0002", "--json").stdout)["performance"]["tokens_per_s"] == "nan"
