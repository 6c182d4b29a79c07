"""One process per folder: a lock that the kernel drops with the process, however it dies."""

import fcntl
from pathlib import Path

from services.order_history.stores import StoreRefused


class FolderLock:
    """Holds ``folder``/``name`` locked until ``release``. Raises StoreRefused where another process holds it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = (folder / name).open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise StoreRefused(
                f"{folder} is in use by another history service: stop it, or give this one a folder of its own"
            ) from None

    def release(self) -> None:
        """Let others have the folder; once more does nothing."""
        self._file.close()
