"""How the command fails: one exception that carries the exit code, and the table of exit codes that `--help` prints. Kept free
of gRPC and protobuf, so that `ordertape --help` stays quick.
"""

from collections.abc import Sequence

DIFFERS = 1
USAGE = 2
REFUSED = 3
SERVICE_ENDED = 4
FETCH_FAILED = 5
NOT_WRITTEN = 6
INTERRUPTED = 130
GRPC_BASE = 64

EXIT_CODES = (
    "Exit codes: 0 done; 1 what was checked differs (demo, conform, ledger, verify); 2 wrong usage; 3 the exchange REJECTED"
    " the order (place); 4 a service that the command started ended by itself (dev, demo); 5 the recording could not be "
    "fetched (demo); 6 the output could not be written (export); 130 interrupted (0 for dev and watch, which have no other "
    "end); 64 + the gRPC code where a call failed: 67 INVALID_ARGUMENT, 68 DEADLINE_EXCEEDED, 69 NOT_FOUND, 70 "
    "ALREADY_EXISTS, 72 RESOURCE_EXHAUSTED, 73 FAILED_PRECONDITION, 74 ABORTED, 75 OUT_OF_RANGE, 78 UNAVAILABLE, 79 "
    "DATA_LOSS."
)


class Failure(Exception):
    """The command ends with ``exit_code``; the text goes to stderr, each of ``details`` on a line of its own below it."""

    def __init__(self, exit_code: int, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.details = tuple(details)
