"""A gRPC server in this process, on a free port, for a servicer that a test wrote by hand."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc


@contextmanager
def served(*registrations: tuple[Callable[[Any, grpc.Server], None], Any]) -> Iterator[str]:
    """Serve the servicers, each with its generated ``add_XServicer_to_server``; gives the address."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    for register, servicer in registrations:
        register(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
