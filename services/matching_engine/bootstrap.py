"""Puts the engine together: the only place that knows all of its parts."""

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from ordertape.v1 import ledger_pb2, ledger_pb2_grpc, matching_engine_pb2_grpc
from services.domain.commands import ApplyConfig, StartEngine
from services.domain.events import ExchangeRules
from services.domain.exchange import RULES_VERSION, decide
from services.domain.instrument import InstrumentRules, make_instrument
from services.domain.state import ExchangeState
from services.matching_engine.clock import EngineClock, check_start
from services.matching_engine.config import EngineSettings
from services.matching_engine.feed import Feed
from services.matching_engine.feed_api import LedgerFeedApi
from services.matching_engine.grpc_api import AccountsApi, MatchingEngineApi
from services.matching_engine.layout import INDEX_FILE, LEDGER_FOLDER, SNAPSHOTS_FOLDER
from services.matching_engine.ledger import LedgerIndex, SegmentLedger
from services.matching_engine.memory import Memory, index_entries
from services.matching_engine.operator_api import OperatorApi
from services.matching_engine.recovery import fold, parse
from services.matching_engine.sequencer import Sequencer
from services.matching_engine.sessions import Sessions
from services.matching_engine.snapshots import Snapshot, SnapshotKeeper, list_snapshots, newest_snapshot
from services.serving.health import OVERALL, HealthBoard
from services.serving.process import fatal
from services.serving.registration import Registration
from services.serving.server import ThreadedServer, start_server
from services.serving.settings import ServerSettings
from services.wire.instrument_codec import encode_exchange_rules, encode_rules
from services.wire.requests import LedgerRequest

_log = structlog.get_logger()


class Engine:
    """A running engine: ``address`` serves everything (``operator_address`` the Operator, the same unless set apart),
    ``feed_addresses`` are where consumers connect. End it with ``drain`` and then ``close``.
    """

    def __init__(self, settings: EngineSettings, *, on_fatal: Callable[[str], None] | None = None) -> None:
        """Recover the state, begin a new epoch, serve. Raises LedgerError, ClockBehindLedger, BadInstrument, OSError."""
        self.health = HealthBoard()
        self.state = ExchangeState()
        with ExitStack() as opened:
            self._start(settings, on_fatal or (lambda reason: fatal(reason, health=self.health)), opened)
            self._opened = opened.pop_all()

    def _start(self, settings: EngineSettings, on_fatal: Callable[[str], None], opened: ExitStack) -> None:
        clock = EngineClock()
        snapshots = settings.data_dir / SNAPSHOTS_FOLDER
        self.ledger = SegmentLedger.open(
            settings.data_dir / LEDGER_FOLDER,
            verify_from_sequence=max(list_snapshots(snapshots), default=0) + 1,
            segment_bytes_max=settings.ledger_segment_bytes_max,
        )
        opened.callback(self.ledger.close)
        self._index = LedgerIndex.open(settings.data_dir / INDEX_FILE, self.ledger.ledger_id, self.ledger.durable_sequence)
        opened.callback(self._index.close)
        if self._index.discarded is not None:
            _log.warning("the ledger's index is made anew", why=self._index.discarded)
        snapshot_sequence = self._recover(snapshots)
        check_start(clock.now(), self.state.time, accept_clock=settings.accept_clock)
        feed = Feed(settings.feeds)
        opened.callback(feed.close)
        self.feed_addresses = feed.addresses
        self.sequencer = Sequencer(
            self.state,
            self.ledger,
            Memory(self.ledger, self._index),
            feed,
            clock,
            on_fatal,
        )
        self._begin_epoch(settings)
        self.sequencer.catch_up()
        self.sequencer.start()
        opened.callback(self.sequencer.stop)
        if settings.snapshot_every_commands:
            keeper = SnapshotKeeper(
                _snapshot_command(settings), self.ledger, snapshot_sequence, settings.snapshot_every_commands, on_fatal
            )
            keeper.start()
            opened.callback(keeper.stop)
        self._servers = self._serve(settings, on_fatal, opened)
        self.address, self.operator_address = self._servers[0].address, self._servers[-1].address
        self.health.set_serving(OVERALL, True)

    @property
    def servers(self) -> Sequence[ThreadedServer]:
        """The engine's gRPC servers: one, or two where the Operator has an address of its own."""
        return self._servers

    def drain(self, grace_seconds: float) -> None:
        """Refuse new calls and let running ones finish."""
        for server in self._servers:
            server.drain(grace_seconds)

    def close(self) -> None:
        """End what lies behind the servers; all that was answered is durable already."""
        self._opened.close()

    def describe(self) -> dict[str, object]:
        """Where the engine serves and what it found, for whoever started it."""
        return {
            "address": self.address,
            "operator_address": self.operator_address,
            "feeds": self.feed_addresses,
            "ledger": str(self.ledger.folder),
            "ledger_id": self.ledger.ledger_id,
            "epoch": self.state.epoch,
            "pid": os.getpid(),
        }

    def _recover(self, snapshots: Path) -> int:
        """Make the state and complete the index; returns the sequence of the snapshot that the state began with, 0 for none."""
        if self.ledger.torn_tail is not None:
            torn = self.ledger.torn_tail
            _log.warning(
                "cut off the ledger's torn tail: it was never acknowledged",
                file=str(torn.file),
                after_sequence=torn.sequence_after,
                bytes_cut=torn.bytes_cut,
            )
        self.state, last_hash = newest_snapshot(snapshots, self.ledger) or Snapshot(self.state, b"")
        began_with = self.state.sequence
        # The index may be behind the snapshot: it has to know of batches that need not be folded any more.
        for stored in self.ledger.read(self._index.indexed_sequence, up_to=began_with):
            self._index.record(index_entries(parse(stored)))
        for stored, batch in fold(self.ledger.read(began_with), self.state, previous_hash=last_hash):
            if stored.last_sequence > self._index.indexed_sequence:
                self._index.record(index_entries(batch))
        _log.info(
            "recovered",
            sequence=self.state.sequence,
            snapshot_sequence=began_with,
            epoch=self.state.epoch,
            open_orders=len(self.state.orders),
        )
        return began_with

    def _begin_epoch(self, settings: EngineSettings) -> None:
        """Journal the new epoch, and each instrument that config has otherwise than the ledger; config that is refused leaves
        no trace.
        """
        changed = _changed_instruments(self.state, [instrument.rules() for instrument in settings.instruments])
        start = StartEngine(
            self.ledger.ledger_id,
            self.state.epoch + 1,
            RULES_VERSION,
            importlib.metadata.version("ordertape"),
            ExchangeRules(settings.trades_per_order_max, settings.open_orders_per_user_max, settings.session_end_seconds),
        )
        self.sequencer.run_internal(start, LedgerRequest("start_engine", _start_message(start)))
        for rules in changed:
            self.sequencer.run_internal(ApplyConfig(rules), LedgerRequest("apply_config", _apply_message(rules)))

    def _serve(self, settings: EngineSettings, on_fatal: Callable[[str], None], opened: ExitStack) -> list[ThreadedServer]:
        feed_api = LedgerFeedApi(self.ledger, self.state, self.sequencer, on_fatal)
        sessions = Sessions(self.sequencer.session_lost)
        opened.callback(sessions.close)
        operator: Registration = (matching_engine_pb2_grpc.add_OperatorServicer_to_server, OperatorApi(self.sequencer))
        registrations: list[Registration] = [
            (matching_engine_pb2_grpc.add_MatchingEngineServicer_to_server, MatchingEngineApi(self.sequencer, sessions)),
            (matching_engine_pb2_grpc.add_AccountsServicer_to_server, AccountsApi(self.sequencer)),
            (ledger_pb2_grpc.add_LedgerFeedServicer_to_server, feed_api),
        ]
        apart = settings.operator_listen
        if apart is None:
            registrations.append(operator)
        servers = [
            start_server(registrations, _server_settings(settings, settings.listen), self.health, [feed_api.stop, sessions.drain])
        ]
        if apart is not None:
            servers.append(start_server([operator], _server_settings(settings, apart), self.health))
        return servers


def write_ready_file(path: Path, description: dict[str, object]) -> None:
    """Tell by a file, whole from the moment that it is there, that the engine serves and where."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(description) + "\n")
    part.replace(path)


def _snapshot_command(settings: EngineSettings) -> list[str]:
    program = [sys.executable, "-m", "services.matching_engine", "snapshot"]
    return [*program, "--data-dir", str(settings.data_dir), "--log-level", settings.log_level]


def _changed_instruments(state: ExchangeState, named: Sequence[InstrumentRules]) -> list[InstrumentRules]:
    """Those that the state has not, or has otherwise. Raises BadInstrument where one cannot follow on the others."""
    trial = ExchangeState()
    trial.instruments, trial.asset_decimals = dict(state.instruments), dict(state.asset_decimals)
    changed = []
    for rules in named:
        known = trial.instruments.get(rules.symbol)
        if known is None or known.rules != make_instrument(rules).rules:
            trial.apply(decide(trial, ApplyConfig(rules), trial.time + 1), trial.time + 1)
            changed.append(rules)
    return changed


def _server_settings(settings: EngineSettings, listen: str) -> ServerSettings:
    host, _, port = listen.rpartition(":")
    return ServerSettings(
        host=host.strip("[]"),
        port=int(port),
        calls_max=settings.calls_max,
        call_threads_max=settings.call_threads_max,
        streams_max=settings.replays_max,
        sessions_max=settings.sessions_max,
        grace_seconds=settings.drain_grace_seconds,
        channelz=settings.channelz,
    )


def _start_message(start: StartEngine) -> ledger_pb2.StartEngine:
    return ledger_pb2.StartEngine(
        ledger_id=start.ledger_id,
        epoch=start.epoch,
        rules_version=start.rules_version,
        program_version=start.program_version,
        rules=encode_exchange_rules(start.rules),
    )


def _apply_message(rules: InstrumentRules) -> ledger_pb2.ApplyConfig:
    message = ledger_pb2.ApplyConfig()
    encode_rules(make_instrument(rules).rules, message.instrument)
    return message
