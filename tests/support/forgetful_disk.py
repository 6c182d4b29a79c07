"""``python -m tests.support.forgetful_disk ...``: the matching engine on a slow disk whose power is cut with the process. Of what
it wrote and did not sync only the first half is there after a kill: kill -9 alone would leave all of it in the kernel's cache,
and so could not show that an answer was given too early, or a sync forgotten.
"""

import os
import sys
import time
from collections.abc import Callable

from services.matching_engine.__main__ import main

SYNC_SECONDS = 0.02  # most of a busy engine's time: a kill at a random moment comes while something is not synced
_unsynced: dict[int, list[tuple[bytes, int]]] = {}
_pwrite, _close, _fsync, _fdatasync = os.pwrite, os.close, os.fsync, os.fdatasync


def _write_half(file: int, data: bytes, offset: int) -> int:
    _unsynced.setdefault(file, []).append((bytes(data), offset))
    _write_all(file, bytes(data)[: len(data) // 2], offset)
    return len(data)


def _syncing(sync: Callable[[int], None]) -> Callable[[int], None]:
    def write_and_sync(file: int) -> None:
        time.sleep(SYNC_SECONDS)
        for data, offset in _unsynced.pop(file, ()):
            _write_all(file, data, offset)
        sync(file)

    return write_and_sync


def _close_synced(file: int) -> None:
    if file in _unsynced:
        raise AssertionError("a file was closed before it was synced: a power cut would take what was written")
    _close(file)


def _write_all(file: int, data: bytes, offset: int) -> None:
    while data:
        written = _pwrite(file, data, offset)
        data, offset = data[written:], offset + written


if __name__ == "__main__":
    os.pwrite, os.close = _write_half, _close_synced  # type: ignore[assignment]
    os.fsync, os.fdatasync = _syncing(_fsync), _syncing(_fdatasync)
    sys.exit(main())
