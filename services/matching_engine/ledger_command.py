"""The ledger on paper: prints its batches, and proves it, byte by byte and request by request."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import json_format

from ordertape.v1 import ledger_pb2
from services.domain.errors import DomainError
from services.domain.exchange import RULES_VERSION, decide
from services.domain.kinds import ExecType
from services.domain.state import ExchangeState
from services.matching_engine.exit_codes import BAD_LEDGER
from services.matching_engine.keys import stored_request
from services.matching_engine.layout import LEDGER_FOLDER, SNAPSHOTS_FOLDER
from services.matching_engine.ledger import LedgerError, SegmentReader
from services.matching_engine.recovery import Unfoldable, fold
from services.matching_engine.snapshots import SnapshotUnusable, list_snapshots, load_snapshot, snapshot_path
from services.wire.errors import CallError
from services.wire.fields import microseconds_of
from services.wire.ledger_codec import LedgerUnreadable, encode_batch
from services.wire.requests import LedgerRequest
from services.wire.stored_requests import command_of


def main(arguments: Sequence[str]) -> int:
    """Print or verify a ledger; an engine may be running on it. The exit code is 65 where it is damaged."""
    given = _parser().parse_args(arguments)
    try:
        if given.verify:
            return _verify(given.data_dir, quiet=given.quiet)
        return _print(given.data_dir / LEDGER_FOLDER, given.after, given.limit, given.output)
    except (LedgerError, LedgerUnreadable, SnapshotUnusable) as error:
        print(error, file=sys.stderr)
        return BAD_LEDGER
    except BrokenPipeError:
        sys.stderr.close()
        return 0


class Audit:
    """Runs each batch's request through the core and compares what comes out with what the ledger says."""

    def __init__(self) -> None:
        self.state = ExchangeState()
        self.requests = 0
        self.skipped = 0
        self._rules_known = True

    def check(self, batch: ledger_pb2.LedgerBatch) -> None:
        """Check a batch that follows the state. Raises Unfoldable where the core would have said something else."""
        name, message = stored_request(batch)
        if name == "start_engine":
            self._rules_known = batch.start_engine.rules_version == RULES_VERSION
        if not self._rules_known:
            self.skipped += 1
            return
        self.requests += 1
        try:
            time = microseconds_of(batch.timestamp)
            events = decide(self.state, command_of(batch), time)
        except (DomainError, CallError, ValueError) as error:
            raise Unfoldable(batch.first_sequence, f"the core refuses its request: {error}") from error
        again = encode_batch(self.state, events, LedgerRequest(name, message), time, batch.previous_hash).message
        if list(again.commands) != list(batch.commands):
            raise Unfoldable(batch.first_sequence, "its request gives other commands")


class SnapshotCheck:
    """Compares each snapshot with the fold at its sequence."""

    def __init__(self, folder: Path) -> None:
        self.checked = 0
        self._folder = folder
        self._waiting = list_snapshots(folder)  # the oldest is last

    def at(self, state: ExchangeState, ledger: SegmentReader) -> None:
        """Called after each batch. Raises SnapshotUnusable where the snapshot that was taken here is another state."""
        while self._waiting and self._waiting[-1] <= state.sequence:
            self._check(self._waiting.pop(), state, ledger)

    def end(self, ledger: SegmentReader) -> None:
        """Called after the last batch. Raises SnapshotUnusable for what the ledger does not reach."""
        for sequence in self._waiting:
            load_snapshot(self._folder, sequence, ledger)

    def _check(self, sequence: int, state: ExchangeState, ledger: SegmentReader) -> None:
        path = snapshot_path(self._folder, sequence)
        if not path.exists():
            return  # a running engine has made a newer one meanwhile
        if load_snapshot(self._folder, sequence, ledger).state.describe() != state.describe():
            raise SnapshotUnusable(path, "it is not what the ledger says up to there")
        self.checked += 1


def _verify(data_dir: Path, *, quiet: bool) -> int:
    from rich.console import Console
    from rich.progress import Progress

    snapshots = SnapshotCheck(data_dir / SNAPSHOTS_FOLDER)
    ledger = SegmentReader.open(data_dir / LEDGER_FOLDER, verify_from_sequence=1)
    running = Audit()
    folded = fold(ledger.read(), running.state, before=running.check)
    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as progress:
        task = progress.add_task("verifying", total=ledger.durable_sequence)
        for stored, _ in folded:
            snapshots.at(running.state, ledger)
            progress.update(task, completed=stored.last_sequence)
    snapshots.end(ledger)
    state = running.state
    missing = {asset: units for asset in state.asset_decimals if (units := state.accounts.missing(asset))}
    if missing:
        raise Unfoldable(state.sequence, f"money is missing or too much, in units: {missing}")
    print(f"ledger {ledger.ledger_id}: {state.sequence} commands of {state.epoch} epochs are whole, in order and chained")
    print(f"{running.requests} requests run through the core gave the same commands again")
    if running.skipped:
        print(f"{running.skipped} requests of epochs with other rules were not run")
    print(f"balances + holds + fees = deposits - withdrawals in {len(state.asset_decimals)} assets")
    if snapshots.checked:
        print(f"{snapshots.checked} snapshots are what the ledger says up to there")
    if ledger.torn_tail is not None:
        print(f"after it: {ledger.torn_tail.bytes_cut} bytes that were never acknowledged")
    return 0


def _print(folder: Path, after: int, limit: int | None, output: str) -> int:
    ledger = SegmentReader.open(folder)
    for number, stored in enumerate(ledger.read(after)):
        if number == limit:
            break
        batch = ledger_pb2.LedgerBatch.FromString(stored.data)
        if output == "table":
            print(_line(batch))
        else:
            indent = 2 if output == "json" else None
            print(json_format.MessageToJson(batch, indent=indent, always_print_fields_with_no_presence=False))
    return 0


def _line(batch: ledger_pb2.LedgerBatch) -> str:
    name, _ = stored_request(batch)
    kinds = ", ".join(_said(command) for command in batch.commands)
    return f"{batch.first_sequence:>9}  {batch.timestamp.ToJsonString():<27}  epoch {batch.epoch}  {name}: {kinds}"


def _said(command: ledger_pb2.LedgerCommand) -> str:
    kind = str(command.WhichOneof("command"))
    if kind == "order_update":
        update = command.order_update
        return f"order {update.order_id} {ExecType(update.exec_type).name}"
    if kind == "match_exec":
        match = command.match_exec
        return f"trade {match.trade_id} {match.qty} @ {match.price}"
    if kind in ("lock", "unlock", "deposit", "withdraw"):
        change = getattr(command, kind)
        return f"{kind} {change.amount} {change.asset} of {change.user_id}"
    return kind


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be 0 or more, is {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ordertape ledger", description="Prints a ledger's batches, or verifies it; an engine may be running on it."
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="the engine's data folder")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check every byte, that the requests give the same commands again, and that the snapshots are right",
    )
    parser.add_argument("--after", type=_count, default=0, metavar="SEQUENCE", help="begin after this sequence")
    parser.add_argument("--limit", type=_count, metavar="N", help="print at most N batches")
    parser.add_argument("--output", "-o", choices=("table", "json", "jsonl"), default="table", help="form of what is printed")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
