"""What can go wrong with the ledger, each with the sequence or the file that an operator has to look at.

LedgerError
+-- LedgerLocked               another engine has the ledger
+-- LedgerNotFound             there is no ledger to read
+-- LedgerDamaged              what was durable is not there, or is not what was written
+-- LedgerFormatUnsupported    written by a newer program
+-- LedgerWriteFailed          a write or sync failed; the ledger takes nothing more
+-- LedgerIndexFailed          engine.db cannot be read or written; a restart completes or rebuilds it
"""

from pathlib import Path


class LedgerError(Exception):
    """The ledger cannot go on."""


class LedgerLocked(LedgerError):
    """Another process has the ledger open for writing; `pid` is its number, None where it did not say yet."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        super().__init__(f"ledger {folder} is in use by process {pid or '(unknown)'}; a ledger has one engine at a time")
        self.folder = folder
        self.pid = pid


class LedgerNotFound(LedgerError):
    """The folder holds no ledger."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} holds no ledger")
        self.folder = folder


class LedgerDamaged(LedgerError):
    """The batch that holds `sequence` was durable, and is missing or is not what was written."""

    def __init__(self, file: Path, sequence: int, what: str) -> None:
        super().__init__(f"{file}: the ledger is damaged at sequence {sequence}: {what}; put the folder back from a copy")
        self.file = file
        self.sequence = sequence


class LedgerFormatUnsupported(LedgerError):
    """The file has a format version that this program does not know."""

    def __init__(self, file: Path, version: int, supported: int) -> None:
        super().__init__(f"{file} has ledger format {version}, this program reads format {supported}; use a newer program")
        self.file = file
        self.version = version


class LedgerWriteFailed(LedgerError):
    """A write or sync failed, so what is on disk after the durable sequence is unknown. Nothing from `sequence` on may be
    acknowledged, nothing is tried again in place: the process has to end, and the next start looks at what is there.
    """

    def __init__(self, folder: Path, sequence: int, cause: BaseException) -> None:
        super().__init__(f"ledger {folder}: sequences from {sequence} on could not be made durable: {cause}")
        self.folder = folder
        self.sequence = sequence


class LedgerIndexFailed(LedgerError):
    """The index could not be read or written. It holds nothing that the ledger does not: the next start completes it."""

    def __init__(self, path: Path, cause: BaseException) -> None:
        super().__init__(f"ledger index {path}: {cause}; it is completed or rebuilt from the ledger at the next start")
        self.path = path
