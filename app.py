"""Start the workbench: the flags, one store, one runner, the page. `python app.py --help` lists the flags.

Everything heavy is imported after the flags are read, and after telemetry is switched off: Gradio looks at its environment
while it is being imported.
"""

import argparse
import sys
import warnings
from pathlib import Path

from workbench.core import environment
from workbench.core.errors import WorkbenchError
from workbench.core.method import discover
from workbench.core.workspace import Workspace, default_home
from workbench.runs.store import Store
from workbench.ui.address import listen


def flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Finetune Workbench: fine-tune language models in the browser, on this computer.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; only this computer's own (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    parser.add_argument("--home", type=Path, default=default_home(), help="the workspace folder (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Serve the page until Ctrl-C; whatever is wrong with the flags or the workspace is said in a sentence."""
    given = flags()
    print("Starting …", file=sys.stderr, flush=True)
    environment.tell()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # about the libraries' own insides
    sys.path.insert(0, str(Path(__file__).parent / "kernels"))  # a source root of its own; needless where the project is installed
    try:
        start(given.host, given.port, Workspace(given.home))
    except WorkbenchError as error:
        sys.exit(str(error))


def start(host: str, port: int, workspace: Workspace) -> None:
    """Take the port and the database first, which may be in use; then load the methods and the page."""
    with listen(host, port) as bound, Store(workspace.database) as store:
        from workbench.jobs.registry import JOBS
        from workbench.runs.runner import Runner
        from workbench.ui.context import Context
        from workbench.ui.server import serve

        discover()
        with Runner(store, workspace, JOBS) as runner:
            print(f"Finetune Workbench: http://{host}:{port}  (workspace {workspace.home.resolve()}, Ctrl-C ends it)", flush=True)
            serve(Context(store, runner, workspace), bound)


if __name__ == "__main__":
    main()
