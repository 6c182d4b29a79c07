"""A disk that fills up: a tmpfs of its own, which only root can mount."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


class SmallDisk:
    """A mounted file system at ``folder``; ``grow`` is what an operator does who frees space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def free_bytes(self) -> int:
        """What is left."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def grow(self, size_bytes: int) -> None:
        """Make it larger."""
        _mount("-o", f"remount,size={size_bytes}", str(self.folder))


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A disk of ``size_bytes`` at ``folder``; skips the test, loudly, where this machine does not let us mount one."""
    folder.mkdir(parents=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "ordertape-test", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        pytest.skip(f"A FULL DISK IS NOT TESTED HERE: only root can mount a small tmpfs ({said})")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily, since a killed service may still be on its way out of it.
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(("mount", *arguments), check=True, capture_output=True, text=True)
