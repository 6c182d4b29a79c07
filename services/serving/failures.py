"""How a handler's exception becomes the end of its call. Handlers raise CallError; anything else is a fault of ours, which
the caller learns of without its text and the log with all of it.
"""

import grpc
import structlog
from grpc_status import rpc_status

from ordertape.v1 import error_reason_pb2 as reasons
from services.wire.errors import CallError, Violation, status_of

log = structlog.stdlib.get_logger(__name__)

# Clients refuse a call's trailing metadata beyond 8 KiB by default, and then see neither code nor reason. The message goes
# twice (percent-encoded, and inside the details), the details in base64: with these bounds all of it stays below.
MESSAGE_BYTES_MAX = 1000
VIOLATIONS_BYTES_MAX = 3000


def draining() -> CallError:
    """The service is stopping: for new calls, and for streams that would not end by themselves."""
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        reasons.ERROR_REASON_DRAINING,
        "the service is draining: call again, elsewhere or later",
    )


def too_many(what: str, limit: int) -> CallError:
    """The limit of ``what`` (calls, streams) is reached."""
    return CallError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        reasons.ERROR_REASON_TOO_MANY_CALLS,
        f"{limit} {what} are running, which is the limit: call again later",
    )


def call_status(error: CallError) -> grpc.Status:
    """The error as a gRPC status with details, cut where it is longer than clients accept."""
    status: grpc.Status = rpc_status.to_status(status_of(_bounded(error)))
    return status


def internal(error: Exception, method: str) -> str:
    """Log a handler's unexpected exception with its traceback; the text for its caller."""
    log.error("handler failed", method=method, exc_info=error)
    return f"internal error in {method}: the server's log has the details"


def _bounded(error: CallError) -> CallError:
    message = _cut(error.message)
    kept: list[Violation] = []
    bytes_left = VIOLATIONS_BYTES_MAX
    for violation in error.violations:
        bytes_left -= len(violation.field.encode()) + len(violation.description.encode())
        if bytes_left < 0:
            rest = len(error.violations) - len(kept)
            kept.append(Violation(violation.field, f"and {rest - 1} more are wrong; this answer holds no more"))
            break
        kept.append(violation)
    if message == error.message and len(kept) == len(error.violations):
        return error
    return CallError(error.code, error.reason, message, kept, error.metadata)


def _cut(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= MESSAGE_BYTES_MAX:
        return message
    return encoded[: MESSAGE_BYTES_MAX - 4].decode(errors="ignore") + " ..."
