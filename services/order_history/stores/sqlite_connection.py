"""How this service opens SQLite, and what its errors mean: to try again, or to stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from services.order_history.stores import StoreDamaged, StoreUnavailable

_BUSY_MS: Final = 5_000
_UNAVAILABLE: Final = (
    apsw.BusyError, apsw.CantOpenError, apsw.ConnectionClosedError, apsw.FullError, apsw.InterruptError, apsw.IOError,
    apsw.LockedError, apsw.NoMemError, apsw.PermissionsError, apsw.ProtocolError, apsw.ReadOnlyError,
)  # fmt: skip
_DAMAGED: Final = (apsw.ConstraintError, apsw.CorruptError, apsw.MismatchError, apsw.NotADBError)


def connect(path: Path) -> apsw.Connection:
    """A connection that waits for others' locks rather than fail at once."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(_BUSY_MS)
    return connection


@contextmanager
def translated_errors(context: str = "") -> Iterator[None]:
    """SQLite's errors as the store's: StoreUnavailable or StoreDamaged. What shows a mistake of ours stays what it is."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise StoreUnavailable(f"{context}{error}") from error
    except _DAMAGED as error:
        raise StoreDamaged(f"{context}{error}") from error
