"""What is fetched is what was made: a folder whole and readable, every number, every setting; and nothing else of this computer."""

import ast
import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from workbench.core.events import Made, Measured
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui import taking
from workbench.ui.bench import first_spec
from workbench.ui.context import Context
from workbench.ui.server import create_app

STEPS = 2600  # more than a curve on the screen has points


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Context:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    store = Store(workspace.database)
    run = store.create("train", 'first, "mine"', first_spec())
    folder = workspace.run(run) / "adapter"
    (folder / "inside").mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/models/b'ase"}))
    (folder / "inside" / "weights.safetensors").write_bytes(bytes(range(256)) * 9000)
    store.append(run, Made("checkpoint", str(workspace.run(run) / "checkpoint")), Made("adapter", str(folder)))
    store.append(run, *[Measured(step, {"loss": 1 / (1 + step)}) for step in range(STEPS)])
    store.create("train", "second", first_spec())
    store.flush()
    return Context(store, Runner(store, workspace, {}), workspace)


@pytest.fixture(scope="module")
def client(ctx: Context) -> Iterator[TestClient]:
    with TestClient(create_app(ctx), base_url="http://127.0.0.1") as client:
        yield client


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_run_comes_as_one_file_with_how_to_load_it(client: TestClient, ctx: Context) -> None:
    answer = client.get(taking.run_path("0001"))
    assert 'filename="run-0001-adapter.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    folder = ctx.workspace.run("0001") / "adapter"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(found) == len(files) + 1
    assert all(found[f"run-0001-adapter/{path.relative_to(folder)}"] == path.read_bytes() for path in files)
    readme = found["run-0001-adapter/README.md"].decode()
    code, spec = re.search(r"```python\n(.*?)```.*```yaml\n(.*)```", readme, re.DOTALL).groups()  # type: ignore[union-attr]
    assert ast.parse(code) and "/models/b'ase" in code and "'run-0001-adapter'" in code
    assert TrainSpec.parse(yaml.safe_load(spec)) == TrainSpec(), "it can be made again"


@pytest.mark.parametrize(
    ("there", "told"),
    [("---\nbase: x\n---\n# Model ID\n[More Information Needed]", "---\nbase: x\n---\n\n# 0001"), ("# Mine\n", "# Mine\n")],
)
def test_a_card_that_nobody_has_written_is_not_handed_on(ctx: Context, tmp_path: Path, there: str, told: str) -> None:
    (tmp_path / "README.md").write_text(there)
    drawn = taking.card(ctx.store.run("0001"), Made("model", str(tmp_path)), "model")
    assert drawn.startswith(told) and "More Information" not in drawn


def test_a_folder_is_sent_while_it_is_read(tmp_path: Path) -> None:
    """A model of many gigabytes must not be held in memory."""
    (tmp_path / "model.safetensors").write_bytes(bytes(5 * taking.CHUNK))
    pieces = [len(piece) for piece in taking.packed(tmp_path, "model", "")]
    assert len(pieces) >= 5 and max(pieces) < 2 * taking.CHUNK


@pytest.mark.parametrize("run", ["0002", "9999", "..", "0001%2F..%2F0001", "page.key"])
def test_what_was_not_made_is_not_there(client: TestClient, run: str) -> None:
    assert client.get(f"/take/{run}.zip").status_code == 404


def test_every_number_is_there(client: TestClient) -> None:
    head, *lines = rows(client.get(taking.curves_path(["0001", "0002", "7777"])).text)
    assert head == ["run", "name", "measure", "step", "value"]
    assert [int(line[3]) for line in lines] == list(range(STEPS)) and {line[1] for line in lines} == {'first, "mine"'}
    assert float(lines[-1][4]) == 1 / STEPS


def test_every_run_is_a_row_with_its_settings(client: TestClient) -> None:
    head, *lines = rows(client.get("/take/runs.csv").text)
    first = dict(zip(head, lines[-1], strict=True))
    assert [line[0] for line in lines] == ["0002", "0001"]
    assert first["name"] == 'first, "mine"' and first["spec.adapter.rank"] == "16" and float(first["last loss"]) == 1 / STEPS


def test_another_site_may_not_fetch_anything(client: TestClient) -> None:
    assert client.get("/take/runs.csv", headers={"origin": "http://evil.example"}).status_code == 403
