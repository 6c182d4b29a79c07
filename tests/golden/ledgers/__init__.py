"""Ledgers that earlier versions wrote, kept for good, each with what came of it: every later version has to make the same of it.
``NAME.tar.xz`` has the segment files, ``NAME.json`` what was true at their end. `scripts/golden --ledger NAME` makes another.
"""

import hashlib
import json
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from services.domain.state import ExchangeState
from services.matching_engine import views
from services.matching_engine.ledger import SegmentReader
from services.matching_engine.recovery import fold
from services.wire.snapshot_codec import encode_state
from tests.support.exchange_proof import WrittenLedger

FOLDER = Path(__file__).parent
BOOK_DEPTH = 500


def names() -> list[str]:
    """Every golden ledger."""
    return sorted(path.name.removesuffix(".tar.xz") for path in FOLDER.glob("*.tar.xz"))


def unpack(name: str, data_dir: Path) -> dict[str, Any]:
    """Fill an engine's data folder with a ledger: what was true at its end."""
    with tarfile.open(FOLDER / f"{name}.tar.xz") as packed:
        packed.extractall(data_dir, filter="data")
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def keep(name: str, data_dir: Path) -> None:
    """Keep the ledger in an engine's data folder for good, with what comes of it."""
    packed = FOLDER / f"{name}.tar.xz"
    if packed.exists():
        raise FileExistsError(f"{packed} is there already and never changes")
    with tarfile.open(packed, "w:xz", preset=9) as archive:
        archive.add(data_dir / "ledger", "ledger")
    described = {"ledger": ledger_of(data_dir), "state": state_of(data_dir), "history": history_of(data_dir)}
    (FOLDER / f"{name}.json").write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n")


def ledger_of(data_dir: Path) -> dict[str, Any]:
    """What is in the ledger: its end, and how many there are of each kind of request, command and order update."""
    written = WrittenLedger(data_dir)
    kinds: Counter[str] = Counter()
    for batch in written.batches:
        kinds[f"request {batch.message.WhichOneof('request')}"] += 1
        for command in batch.message.commands:
            kinds[f"command {command.WhichOneof('command')}"] += 1
    for update in map(MessageToDict, written.updates):
        for field in ("orderType", "timeInForce", "status", "execType", "rejectReason", "cancelReason", "expireReason"):
            if field in update:
                kinds[update[field]] += 1
        kinds[f"{update['orderType']} {update['timeInForce']}"] += 1
    last = written.batches[-1]
    end = {"ledgerId": written.ledger_id, "sequence": written.sequence, "hash": last.hash.hex(), "batches": len(written.batches)}
    return {**end, "kinds": dict(sorted(kinds.items()))}


def state_of(data_dir: Path) -> dict[str, Any]:
    """The engine's whole state at the ledger's end, in the contract's words: money, open orders, books, rules."""
    reader = SegmentReader.open(data_dir / "ledger", verify_from_sequence=1)
    state = ExchangeState()
    for _ in fold(reader.read(), state):
        pass
    last_hash = reader.hash_at(state.sequence)
    assert last_hash is not None
    described: dict[str, Any] = {"head": {}, "users": [], "orders": []}
    for piece in encode_state(state, last_hash):
        kind = str(piece.WhichOneof("piece"))
        said = MessageToDict(getattr(piece, kind))
        described[kind] = said if kind == "head" else described[kind] + said[kind]
    described["books"] = {
        symbol: MessageToDict(views.order_book(state, symbol, BOOK_DEPTH)) for symbol in sorted(state.instruments)
    }
    described["balances"] = {user: MessageToDict(views.balances(state, user))["balances"] for user in sorted(state.users)}
    return described


def history_of(data_dir: Path) -> dict[str, dict[str, Any]]:
    """Of each of the history's tables, once it has the ledger, how many rows there are and the digest of all of them."""
    with tempfile.TemporaryDirectory(prefix="ordertape-golden-") as folder:
        lines = WrittenLedger(data_dir).fold_into(Path(folder))
    tables: dict[str, list[str]] = {}
    for line in lines:
        tables.setdefault(line.partition(" ")[0], []).append(line)
    digests = {table: hashlib.sha256("\n".join(rows).encode()).hexdigest() for table, rows in tables.items()}
    return {table: {"rows": len(rows), "sha256": digests[table]} for table, rows in tables.items()}
