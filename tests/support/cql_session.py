"""A driver's session for tests that talk to a CQL server themselves, and the least question that a server can be asked: whether
it answers at all.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import WhiteListRoundRobinPolicy

_PROTOCOL_VERSION = 4
_OPTIONS = b"\x04\0\0\0\x05\0\0\0\0"  # version, flags, stream (2), opcode, length (4)
_HEADER_BYTES, _OPCODE_AT, _SUPPORTED = 9, 4, 6


def parse_contact_points(contact_points: str) -> list[tuple[str, int]]:
    """``HOST:PORT[,HOST:PORT]`` in parts."""
    pairs = [point.strip().rpartition(":") for point in contact_points.split(",")]
    return [(host, int(port)) for host, _, port in pairs]


def answers_cql(contact_point: str, timeout_seconds: float = 1.0) -> bool:
    """Whether a CQL server answers there, by one frame that needs no session."""
    try:
        with socket.create_connection(parse_contact_points(contact_point)[0], timeout_seconds) as connection:
            connection.sendall(_OPTIONS)
            answer = connection.recv(_HEADER_BYTES)
    except OSError:
        return False
    return len(answer) == _HEADER_BYTES and answer[_OPCODE_AT] == _SUPPORTED


@contextmanager
def cql_session(contact_points: str, *, timeout_seconds: float = 10.0) -> Iterator[Session]:
    """A session whose requests go to these servers and to no other of their ring. ``timeout_seconds`` is a request's."""
    points = parse_contact_points(contact_points)
    hosts = [host for host, _ in points]
    profile = ExecutionProfile(WhiteListRoundRobinPolicy(hosts), request_timeout=timeout_seconds)
    cluster = Cluster(
        hosts,
        # A port given with the host would be used for the first connection only, and this one for all others.
        port=points[0][1],
        protocol_version=_PROTOCOL_VERSION,
        connect_timeout=timeout_seconds,
        control_connection_timeout=timeout_seconds,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()
