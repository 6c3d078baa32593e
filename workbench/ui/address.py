"""Where the page may be served: an address of this very computer, and a port that nobody has.

Light on purpose: a wrong flag is answered before anything heavy is imported.
"""

import ipaddress
import socket

from workbench.core.errors import WorkbenchError

HOSTS = ("127.0.0.1", "localhost")


def loopback(host: str) -> str:
    """`host` if only this computer can reach it; anything else is refused in a sentence."""
    if host in HOSTS:
        return host
    try:
        known = ipaddress.ip_address(host).is_loopback
    except ValueError:
        known = False
    hint = "Use 127.0.0.1 instead." if known else "Use 127.0.0.1, and an SSH tunnel (ssh -L 7860:127.0.0.1:7860 MACHINE) to work from afar."
    raise WorkbenchError(
        f"The workbench does not listen on {host}. It has no users and no passwords, so it serves this computer only. {hint}"
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the port, or a sentence that says who could be in the way."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((loopback(host), port))
    except OSError as error:
        bound.close()
        raise WorkbenchError(
            f"Port {port} of {host} cannot be used ({error.strerror}). Perhaps a workbench runs already: open http://{host}:{port}. "
            f"Or choose another port with --port {port + 1}."
        ) from error
    return bound
