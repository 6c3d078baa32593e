"""The rules of the house as assertions: who may import whom, and what no file may do."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("workbench/**/*.py"), *ROOT.glob("kernels/**/*.py"), ROOT / "app.py"])
CODE = [path for path in FILES if path.name != "__init__.py"]

# folder (longest match wins) → what of ours it may import, what of others beside the standard library
MAY: dict[str, tuple[set[str], set[str]]] = {
    "kernels/workbench_kernels": (set(), {"torch", "triton"}),
    "workbench/core": (set(), {"pydantic", "pydantic_core", "yaml"}),
    "workbench/materials": (
        {"core", "kernels"},
        {
            "torch",
            "transformers",
            "safetensors",
            "pyarrow",
            "duckdb",
            "tokenizers",
            "peft",
            "yaml",
            "jinja2",
            "scipy",
            "orjson",
            "rensa",
            "py3langid",
            "bitsandbytes",
        },
    ),
    "workbench/methods/contracts.py": ({"core", "materials"}, {"torch", "transformers"}),
    "workbench/methods": ({"core", "materials", "methods.contracts", "kernels"}, {"torch", "transformers", "peft"}),
    "workbench/jobs": (
        {"core", "materials", "methods.contracts", "kernels"},
        {"torch", "transformers", "accelerate", "safetensors", "pyarrow", "psutil", "yaml"},
    ),
    "workbench/runs": ({"core"}, {"duckdb", "pyarrow", "yaml"}),
    "workbench/claims": ({"core", "jobs"}, set()),
    "workbench/ui/tabs": ({"core", "jobs", "runs", "claims", "ui"}, {"gradio"}),
    "workbench/ui": ({"core", "jobs", "runs", "claims"}, {"gradio", "plotly", "fastapi", "starlette", "uvicorn", "yaml"}),
    "workbench/__main__.py": (
        {"core", "jobs", "runs", "materials", "methods", "ui", "shell", "data_shell", "claim_shell", "query_shell"},
        {"typer"},
    ),
    "workbench/query_shell.py": ({"core", "runs", "shell"}, {"typer"}),
    "workbench/claim_shell.py": ({"core", "runs", "shell"}, {"typer"}),
    "workbench/data_shell.py": ({"core", "jobs", "runs", "shell"}, {"typer", "yaml"}),
    "workbench/shell.py": ({"core", "jobs", "runs"}, {"typer"}),
    "workbench": ({"core"}, set()),
    "app.py": ({"core", "jobs", "runs", "ui"}, {"typer", "uvicorn"}),
}
ALONE = {
    "bitsandbytes": ("workbench/materials/rounded.py",),
    "duckdb": ("workbench/runs/store.py", "workbench/materials/"),
    "plotly": ("workbench/ui/plots.py",),
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Dotted names of the modules a file imports, anywhere in it; `from a import b` gives a.b where that is a module of ours."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively; write the module's full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if (ROOT / inner.replace(".", "/")).with_suffix(".py").exists() else str(node.module)


def rule_for(path: Path) -> tuple[set[str], set[str]]:
    fitting = [folder for folder in MAY if name_of(path) == folder or name_of(path).startswith(folder + "/")]
    return MAY[max(fitting, key=len)]


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_imports_only_what_its_folder_may(path: Path) -> None:
    ours, others = rule_for(path)
    here = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package = here.rpartition(".")[0]
    for module in imports(path):
        top = module.split(".")[0]
        if top == "workbench":
            inner = module.removeprefix("workbench.")
            same_folder = module.startswith(package + ".") and not here.startswith("workbench.methods.")
            allowed = any(inner == name or inner.startswith(name + ".") for name in ours)
            assert allowed or same_folder, f"{name_of(path)} may not import {module}"
        elif top == "workbench_kernels":
            assert "kernels" in ours or name_of(path).startswith("kernels/"), f"{name_of(path)} may not import {module}"
        else:
            assert top in sys.stdlib_module_names or top in others, f"{name_of(path)} may not import {module}"
        for library, places in ALONE.items():
            assert top != library or name_of(path).startswith(places), f"only {places} may import {library}"


def test_there_is_no_import_cycle() -> None:
    graph = {".".join(path.relative_to(ROOT).with_suffix("").parts): set(imports(path)) for path in CODE}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "import cycle: " + " → ".join([*trail[trail.index(module) :], module])
        if module in done or module not in graph:
            return
        for inner in graph[module]:
            visit(inner, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_says_what_it_is_and_stays_short(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{name_of(path)} has no docstring that says what it is"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, f"{name_of(path)} has more than 300 lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{name_of(path)}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_module_only_defines(path: Path) -> None:
    """No work while being imported: definitions, imports, constants, and the `__main__` guard."""
    for node in tree(path).body:
        work = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        assert not work, f"{name_of(path)}:{node.lineno} does work at import"
        assert not isinstance(node, ast.For | ast.While | ast.With | ast.Try), f"{name_of(path)}:{node.lineno} does work at import"


def test_init_files_are_empty_and_kernels_is_a_source_root() -> None:
    full = [name_of(path) for path in FILES if path.name == "__init__.py" and path.read_text().strip()]
    assert not full, f"never import through a package's __init__: {full}"
    assert not (ROOT / "kernels" / "__init__.py").exists(), "transformers mistakes a package named `kernels` for its own"


def test_only_the_runner_catches_everything() -> None:
    broad = []
    for path in CODE:
        for node in ast.walk(tree(path)):
            caught = node.type if isinstance(node, ast.ExceptHandler) else None
            names = {part.id for part in ast.walk(caught) if isinstance(part, ast.Name)} if caught else set()
            if isinstance(node, ast.ExceptHandler) and (caught is None or names & {"Exception", "BaseException"}):
                broad.append(name_of(path))
    assert broad in ([], ["workbench/runs/runner.py"]), f"one `except Exception`, in the runner: {broad}"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_control_flow_by_asking_for_attributes(path: Path) -> None:
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    asked = [call.lineno for call in calls if call.func.id in {"hasattr", "getattr", "setattr", "eval", "exec"}]  # type: ignore[attr-defined]
    assert not asked, f"{name_of(path)}: lines {asked}"


@pytest.mark.parametrize("folder", ["jobs", "ui"])
def test_no_method_is_known_by_name(folder: str) -> None:
    methods = {path.stem for path in ROOT.glob("workbench/methods/*/*.py")} - {"__init__", "length", "linear", "lines", "plain", "full"}
    for path in ROOT.glob(f"workbench/{folder}/**/*.py"):
        texts = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert not texts & methods, f"{name_of(path)} names {texts & methods}; ask the registry"
