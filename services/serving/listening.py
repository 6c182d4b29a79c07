"""Opens a server's port, or says in words why it cannot be opened: gRPC itself only says that it failed."""

import socket
from collections.abc import Callable


class AddressError(OSError):
    """The address cannot be listened on; the text names it and the reason."""


def address_of(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(add_port: Callable[[str], int], host: str, port: int) -> int:
    """Open the port with a server's ``add_insecure_port``; the port that was opened. Raises AddressError."""
    address = address_of(host, port)
    try:
        return add_port(address)
    except RuntimeError as error:
        raise AddressError(f"cannot listen on {address}: {_reason(host, port)}") from error


def _reason(host: str, port: int) -> str:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return "it was taken a moment ago"
