"""The server refuses what is not of this computer's own page, says nothing it should not, and lets go of what it holds."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from workbench.core.errors import WorkbenchError
from workbench.core.workspace import Workspace
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui.address import listen, loopback
from workbench.ui.context import Context
from workbench.ui.server import SCRIPTS, assets, create_app, lighten

ROOT = Path(__file__).parents[2]
HERE = "http://127.0.0.1"


def context(home: Path) -> Context:
    workspace = Workspace(home)
    store = Store(workspace.database)
    return Context(store, Runner(store, workspace, {}), workspace)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(context(home)), base_url=HERE) as client:
        yield client


def poll(client: TestClient, **headers: str) -> int:
    """Ask for the live line as the page does; the answer's status."""
    return client.post("/pulse", json={"live": {"value": None, "key": ""}}, headers=headers).status_code


@pytest.mark.parametrize("packing", ["gzip, br", "identity"])
def test_our_scripts_stand_in_the_page_before_gradios_and_once(client: TestClient, packing: str) -> None:
    """What Gradio is given as `head` it adds while it draws, and waits for none of it: a chart whose script comes late would stay dead."""
    answer = client.get("/", headers={"accept-encoding": packing})
    assert answer.headers.get("content-encoding", "identity") in packing and answer.headers["content-type"].startswith("text/html")
    places = [answer.text.index(f'{name}"></script>') for name in SCRIPTS]
    assert places == sorted(places) and places[-1] < answer.text.index("gradio_config") < answer.text.index('type="module"')
    assert all(answer.text.count(name) == 1 for name in SCRIPTS)


def test_a_foreign_host_header_is_refused(client: TestClient) -> None:
    assert client.get("/config", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/config", headers={"host": "localhost:7860"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000"},  # another program of this very computer
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
def test_a_post_of_another_site_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert poll(client, **headers) == 403


def test_the_page_itself_and_programs_may_post(client: TestClient) -> None:
    assert poll(client, origin=HERE) == 200
    assert poll(client, **{"sec-fetch-site": "same-origin"}) == 200
    assert poll(client) == 200


def test_another_sites_page_may_not_even_read(client: TestClient) -> None:
    assert client.get("/config", headers={"origin": "http://evil.example"}).status_code == 403


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/config", "/no-such-page"):
        headers = client.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'" and policy["connect-src"] == "'self'", "the page may ask no other host"
        assert not any("http" in value or "*" in value for value in policy.values())


def test_the_configuration_says_nothing_of_this_computer(client: TestClient, home: Path) -> None:
    said = client.get("/config").text + client.get("/").text
    for secret in (str(ROOT), str(home), str(Path.home()), "functools.partial", "duckdb"):
        assert secret not in said, f"{secret} stands in the page"


def test_the_page_stays_light(client: TestClient) -> None:
    """A page's cost grows with its configuration (gui.md 4.3); what is chosen rarely is drawn when it is asked for."""
    assert len(client.get("/config", headers={"accept-encoding": "identity"}).content) < 230_000


def test_what_is_said_stays_and_what_nobody_reads_goes() -> None:
    config = {
        "components": [{"id": 1, "props": {"value": 0, "choices": []}, "api_info": {"type": "x"}, "example_inputs": 3}],
        "dependencies": [
            {"id": 7, "targets": [[1, "click"]], "queue": False, "time_limit": 30, "max_batch_size": 4, "api_description": ""},
            {"id": 8, "targets": [], "js": "() => 1", "queue": True, "time_limit": None, "max_batch_size": 4, "api_description": "says"},
        ],
    }
    lighten(config)
    (component,), (first, other) = config["components"], config["dependencies"]
    assert component == {"id": 1, "props": {"value": 0, "choices": []}}
    assert first["time_limit"] == 30 and "api_description" not in first and "max_batch_size" not in first
    assert other["api_description"] == "says" and other["js"] == "() => 1" and "time_limit" not in other
    assert [(own["id"], own["targets"], own["queue"]) for own in (first, other)] == [(7, [[1, "click"]], False), (8, [], True)]


@pytest.mark.parametrize("path", ["app.py", "/etc/passwd", "workspace/page.key", "../app.py"])
def test_no_file_can_be_asked_for(client: TestClient, path: str) -> None:
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_assets_are_a_closed_list_and_may_be_kept(client: TestClient) -> None:
    prefix = re.search(r"/assets-([0-9a-f]+)/", client.get("/").text)[1]
    for name in assets():
        answer = client.get(f"/assets-{prefix}/{name}")
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    for name in ("pocket/model.safetensors", "..%2fapp.py", "figure.json"):
        assert client.get(f"/assets-{prefix}/{name}").status_code == 404


def test_nothing_but_the_page_is_published(client: TestClient) -> None:
    assert client.get("/openapi.json").status_code == 404 and client.get("/docs").status_code == 404
    dependencies = client.get("/config").json()["dependencies"]
    called = [part for part in dependencies if part["backend_fn"] and [event for _, event in part["targets"]] != ["load"]]
    shown = [part["api_name"] for part in called if part["api_visibility"] == "public"]
    assert not shown, f"these handlers are published as an API: {shown}"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_only_this_computer_is_served(host: str) -> None:
    with pytest.raises(WorkbenchError, match="serves this computer only"):
        loopback(host)


def test_a_port_in_use_is_told_in_a_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(WorkbenchError, match="--port"):
            listen("127.0.0.1", other.getsockname()[1])


def test_runner_and_store_are_closed_with_the_server(tmp_path: Path) -> None:
    held = context(tmp_path)
    with TestClient(create_app(held), base_url=HERE):
        assert held.store.runs() == []
    with Store(held.workspace.database) as again:  # refused while another holds it
        assert again.runs() == []
