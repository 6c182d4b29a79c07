"""``verify``: proves that ledger, history and engine say the same, or names the first place where they do not."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from services.order_history.command_line import BadSettings, add_settings, add_waiting, keep_logs_quiet, settings_of
from services.order_history.config import HistorySettings
from services.order_history.engine_client import EngineAway, EngineClient
from services.order_history.exit_codes import BAD_CONFIG, BAD_LEDGER, CANNOT_START, DIFFERS, ENGINE_AWAY, STORE_AWAY
from services.order_history.operations.asked_engine import AskedEngine
from services.order_history.operations.differences import Difference
from services.order_history.operations.digests import PLACED_BY_ORDER_ID
from services.order_history.operations.engine_questions import EngineQuestions
from services.order_history.operations.ledger_reading import PatientEngine
from services.order_history.operations.patience import patiently
from services.order_history.operations.shown_progress import ShownProgress
from services.order_history.operations.signals import Stop, StopSignals
from services.order_history.operations.verification import Findings, Verification
from services.order_history.order_processor import LedgerUnreadable
from services.order_history.stores import StoreDamaged, StoreRefused, StoreUnavailable
from services.order_history.stores.opening import ReadableStore, open_for_reading

_PLACES_PER_CELL: Final = 100_000
_NAMED_MAX: Final = 20


def main(arguments: Sequence[str]) -> int:
    """Compare and print; the exit code is one of exit_codes.py, 130 or 143 where a signal stopped it."""
    given = _parser().parse_args(arguments)
    try:
        settings = settings_of(given)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    keep_logs_quiet()
    began_at = time.monotonic()
    with StopSignals() as signals:
        try:
            with ShownProgress(quiet=given.quiet) as shown:
                findings = _verify(settings, given, signals, shown)
        except Stop:
            return signals.exit_code
        except StoreRefused as error:
            return _failed(CANNOT_START, f"the store cannot be verified: {error}")
        except StoreUnavailable as error:
            return _failed(STORE_AWAY, f"the store is away: {error}")
        except StoreDamaged as error:
            return _failed(BAD_LEDGER, f"the store is damaged: {error}")
        except EngineAway as error:
            return _failed(ENGINE_AWAY, f"the engine is away: {error}")
        except LedgerUnreadable as error:
            return _failed(BAD_LEDGER, f"ledger and store cannot be compared: {error}")
    document = _document(findings, time.monotonic() - began_at)
    if given.output == "json":
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(_lines(findings, document)))
    return 0 if findings.equal else DIFFERS


def _verify(settings: HistorySettings, given: argparse.Namespace, signals: StopSignals, shown: ShownProgress) -> Findings:
    store: ReadableStore = patiently(lambda: open_for_reading(settings), given.patience, signals, shown)
    client = EngineClient(settings.engine_address, settings.engine_timeout_seconds, settings.replay_timeout_seconds)
    patient = PatientEngine(AskedEngine(client), given.patience, signals, shown)
    questions = EngineQuestions(settings.engine_address, settings.engine_timeout_seconds, patient)
    try:
        return Verification(
            store, patient, questions, signals, shown,
            share=settings.share, places_per_cell=given.range, patience_seconds=given.patience,
        ).run()  # fmt: skip
    finally:
        questions.close()
        client.close()
        store.close()


def _failed(code: int, text: str) -> int:
    print(text, file=sys.stderr)
    return code


def _document(findings: Findings, seconds: float) -> dict[str, Any]:
    """The findings under the contract's kind of names."""
    tables = sorted(findings.expected.keys() | findings.found.keys())
    return {
        "ledgerId": findings.ledger_id,
        "checkpoint": findings.checkpoint_sequence,
        "commands": findings.commands,
        "users": findings.users,
        "updates": findings.updates,
        "rows": {name: {"expected": findings.expected.get(name, 0), "found": findings.found.get(name, 0)} for name in tables},
        "rowsBeyondCheckpoint": findings.beyond_checkpoint,
        "openOrders": {"expected": findings.open_orders_expected, "found": findings.open_orders_found},
        "balances": findings.balances,
        "books": findings.books,
        "seconds": round(seconds, 3),
        "equal": findings.equal,
        "differingRanges": findings.differing_cells,
        "firstRange": None if findings.first_cell is None else findings.first_cell._asdict(),
        "differences": [
            *({"kind": d.kind, **d._asdict()} for d in [*findings.rows, *findings.open_orders][:_NAMED_MAX]),
            *({"kind": "engine", **d._asdict()} for d in findings.engine[:_NAMED_MAX]),
        ],
    }


def _lines(findings: Findings, document: dict[str, Any]) -> Iterator[str]:
    rows = [("name", "expected", "found")]
    rows += [(f"rows of {name}", str(rows["expected"]), str(rows["found"])) for name, rows in document["rows"].items()]
    rows.append(("open orders", str(findings.open_orders_expected), str(findings.open_orders_found)))
    rows.append(("users' balances compared", "", str(findings.balances)))
    rows.append(("books compared", "", str(findings.books)))
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    yield f"ledger {findings.ledger_id}: {findings.commands} commands, {findings.updates} updates of {findings.users} users"
    yield from ("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    beyond = f", {findings.beyond_checkpoint} rows beyond it do not count" if findings.beyond_checkpoint else ""
    yield f"the history's checkpoint is {findings.checkpoint_sequence}{beyond}; {document['seconds']:.1f} s"
    if findings.equal:
        yield "everything is equal"
    else:
        yield from _differences(findings)


def _differences(findings: Findings) -> Iterator[str]:
    """The first of each kind in full, then those beside it in short."""
    if (cell := findings.first_cell) is not None:
        of = "order_ids" if cell.table in PLACED_BY_ORDER_ID else "sequences"
        begin = cell.number * findings.places_per_cell
        yield (
            f"{findings.differing_cells} ranges differ, the first: {cell.table} of user {cell.user_id}, "
            f"{of} {begin} to {begin + findings.places_per_cell - 1}"
        )
        if not any(row.table == cell.table and row.place for row in findings.rows):
            yield "its rows were equal when they were read again: verify again"
    rows = [*findings.rows, *findings.open_orders]
    if rows:
        yield f"the first difference: {_named(rows[0])}"
        yield f"  the ledger says: {rows[0].ledger or 'no such row'}"
        yield f"  the store has: {rows[0].store or 'no such row'}"
        yield from (f"then {_named(row)}" for row in rows[1:_NAMED_MAX])
        if findings.unsafe_after is not None and rows[0].store is None and rows[0].place > findings.unsafe_after:
            yield (
                f"rows after sequence {findings.unsafe_after} may have been forgotten by a server, and are written again when "
                "the history starts: verify after that"
            )
    for difference in findings.engine[:_NAMED_MAX]:
        yield (
            f"the engine differs from its ledger at sequence {difference.sequence}: {difference.what}: "
            f"the ledger says {difference.ledger}, the engine {difference.engine}"
        )


def _named(row: Difference) -> str:
    place = "" if not row.place else f"{'order_id' if row.table in PLACED_BY_ORDER_ID else 'sequence'} {row.place}, "
    return f"{place}{row.table}, user {row.user_id or 'unnamed'}: {row.kind}"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, is {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ordertape verify",
        description="Compares the engine's ledger, its balances and books, and every row of a history's store. Engine and "
        "history may run: what is later than the store's checkpoint does not count.",
        epilog="Exit codes: 0 everything is equal; 1 something differs; 65 ledger and store have parted, or one is damaged; 69 "
        "the engine is away; 71 the store is refused; 74 the store is away; 78 a setting is wrong; 130 or 143 stopped by a "
        "signal. Every setting of the history can be given as ORDERTAPE_HISTORY_NAME or in the TOML file too, a store's address "
        "best so: there nobody sees its password.",
    )
    add_settings(parser, ("store", "data_dir", "engine_address"))
    parser.add_argument(
        "--range", type=_count, default=_PLACES_PER_CELL, metavar="N",
        help=f"sequences that go into one digest. Default: {_PLACES_PER_CELL}",
    )  # fmt: skip
    parser.add_argument("--output", "-o", choices=("table", "json"), default="table", help="form of what is printed")
    add_waiting(parser)
    return parser
