"""`ordertape export`: all updates of a user's orders in a file, over restarts of the service; one that broke off can be gone on
with.
"""

import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.failures import INTERRUPTED, NOT_WRITTEN, USAGE, Failure
from services.cli.formats import FileFormat, format_of, require_writable, writer_to
from services.cli.options import HISTORY_DEFAULT, TIMEOUT_DEFAULT, AtLeast, HistoryAddress, Symbols, User
from services.cli.times import TIME_HELP, instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from ordertape.v1 import order_history_pb2 as history_pb2
    from services.cli.following import Exported
    from services.cli.formats import Writer

_STDOUT = "-"
# Messages of up to 1 MiB that are read ahead of what is written.
_AHEAD_MAX = 2


def export(
    user: User,
    file_format: Annotated[
        FileFormat | None,
        typer.Option("--format", case_sensitive=False, help="How to write; else as FILE's name ends, else jsonl."),
    ] = None,
    symbol: Symbols = None,
    updated_from: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help=f"Happened then or later. {TIME_HELP}")
    ] = None,
    updated_until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Happened before.")] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="POSITION", help="Only what is later than this position.")
    ] = None,
    at_least: AtLeast = "",
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where to write; - for the standard output.")] = _STDOUT,
    patience: Annotated[
        float,
        typer.Option("--patience", metavar="SECONDS", min=0, help="How long to wait for a history that went away meanwhile."),
    ] = 60.0,
    history: HistoryAddress = HISTORY_DEFAULT,
) -> None:
    """Write every update of a user's orders, oldest first, each once, whatever restarts in between.

    \b
    ordertape export > orders.jsonl
    ordertape export --format csv --symbol BTC-USD --from 2026-05-01 --until 2026-06-01 --out may.csv
    ordertape export --out orders.parquet                # needs pyarrow
    ordertape export --after POSITION --out more.csv     # what came since: each export ends by saying its position

    It ends where the history is when it begins. FILE appears when it is whole, in the place of an older one; until then it is
    FILE.part. An export that breaks off leaves whole lines there and says the position to go on after: do so into another FILE.
    """
    from ordertape.v1 import order_history_pb2 as history_pb2

    file_format = format_of(out, file_format)
    require_writable(file_format, out == _STDOUT)
    request = history_pb2.ExportOrderHistoryRequest(
        user_id=user,
        symbols=symbol or (),
        after=after,
        updated_from=instant("--from", updated_from),
        updated_until=instant("--until", updated_until),
        at_least=at_least,
    )
    target = _Target(out, file_format, after)
    try:
        _run(request, target, history, patience)
    except KeyboardInterrupt:
        raise Failure(INTERRUPTED, "interrupted", target.told()) from None
    except Failure as failure:
        raise Failure(failure.exit_code, failure.message, [*failure.details, *target.told()]) from failure
    except OSError as error:
        if isinstance(error, BrokenPipeError) and out == _STDOUT:
            raise
        raise Failure(NOT_WRITTEN, f"{out} cannot be written: {error}", target.told()) from error
    # After a bound of time, what is later than the position is not all that is missing.
    later = "" if updated_until else f"  (what comes later: ordertape export --after {target.position})"
    print(f"{target.count} updates, position {target.position}{later}", file=sys.stderr)


class _Target:
    """The output and how far it is. ``position``: all up to it is written; empty where nothing is and no --after was given."""

    def __init__(self, out: str, file_format: FileFormat, after: str | None) -> None:
        self.count = 0
        self.position = after or ""
        self._file = None if out == _STDOUT else Path(out)
        self._part = None if self._file is None else self._file.with_name(f"{self._file.name}.part")
        self._format = file_format
        self._writer: Writer | None = None
        self._opened = False
        self._whole = True
        if self._file is not None and (not self._file.parent.is_dir() or self._file.is_dir()):
            raise Failure(USAGE, f"--out takes a file in a folder that is there, or - for the standard output; got {out!r}")
        if after is not None and self._part is not None and self._part.exists():
            raise Failure(
                USAGE, f"{self._part} is there, maybe what came before --after: give another --out, or take it away first"
            )

    @property
    def is_terminal(self) -> bool:
        """Whether what is written appears on a terminal."""
        return self._file is None and sys.stdout.isatty()

    def write(self, piece: "Exported") -> None:
        """Write a piece and note its position. Raises OSError. The output is opened by the first one, since before that nothing
        that is there should be lost.
        """
        if self._writer is None:
            self._writer = writer_to(self._format, self._part)
            self._opened = True
        self._whole = False
        self._writer.write(piece.updates)
        self._whole = True
        self.count += len(piece.updates)
        self.position = piece.position

    def complete(self) -> None:
        """All is written: give the file its name."""
        self._close()
        if self._part is not None and self._file is not None:
            self._part.replace(self._file)

    def told(self) -> list[str]:
        """End the output where it broke off; what to say about it."""
        with suppress(OSError):
            self._close()
        if not self._opened:
            return []
        if self._part is not None and not self.count:
            self._part.unlink()
            return []
        if not self._whole:
            return [f"{self._part or 'the output'} may end in the middle of a line, so nothing can be added to it: begin anew"]
        where = "" if self._part is None else f" in {self._part}"
        return [
            f"{self.count} updates are written{where}",
            f"to go on: the same command with --after {self.position}" + (" and another --out" if where else ""),
        ]

    def _close(self) -> None:
        if self._writer is not None:
            writer, self._writer, whole = self._writer, None, self._whole
            self._whole = False
            writer.close()
            self._whole = whole


def _run(request: "history_pb2.ExportOrderHistoryRequest", target: _Target, address: str, patience_seconds: float) -> None:
    from ordertape.client.apart import Apart
    from services.cli.client import History
    from services.cli.following import exported
    from services.cli.processes import Interrupts

    with Interrupts() as interrupts, History(address, TIMEOUT_DEFAULT) as service, _shown(request.user_id, target) as bar:
        for piece in Apart(exported(service, request, patience_seconds, bar.say), _AHEAD_MAX):
            # Written and noted as one: the position says exactly what was written, whenever Ctrl-C comes.
            with interrupts.held():
                target.write(piece)
            bar.move(piece)
        with interrupts.held():
            target.complete()


class _Bar:
    """How far the export is, on a terminal; without one it says only what is out of the ordinary."""

    def __init__(self, progress: "Progress | None", user_id: str) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task(user_id, total=None)
        self._begin = 0

    def move(self, piece: "Exported") -> None:
        """Show how far it is: by the running numbers of the user's updates, so that a filter does not deceive."""
        if self._progress is None or self._task is None or not piece.updates:
            return
        self._begin = self._begin or piece.updates[0].user_update_number
        done = piece.updates[-1].user_update_number - self._begin + 1
        self._progress.update(self._task, completed=done, total=max(done, piece.last_number - self._begin + 1))

    def say(self, reason: str) -> None:
        """Say why the stream ended, above the bar."""
        text = f"connection lost ({reason}): resuming"
        if self._progress is None:
            print(text, file=sys.stderr)
        else:
            self._progress.console.print(text, highlight=False, markup=False)


@contextmanager
def _shown(user_id: str, target: _Target) -> "Iterator[_Bar]":
    if not sys.stderr.isatty() or target.is_terminal:
        yield _Bar(None, user_id)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("updates"), TimeRemainingColumn())
    with Progress(*shown, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, user_id)
