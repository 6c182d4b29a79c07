"""LedgerBatch, both ways: the events that one domain command caused, as the bytes that are on disk for good.

Encoding happens once for each batch; the same bytes go to the disk, to the feed and to whoever replays the ledger. Decoding
gives back the very events, so that recovery applies what was applied then.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ordertape.v1 import ledger_pb2, order_pb2
from services.domain.errors import DomainError
from services.domain.events import (
    BalanceChange,
    Deposited,
    EngineStarted,
    Event,
    InstrumentChanged,
    Locked,
    MassCancelDone,
    Matched,
    TradingStatusChanged,
    Unlocked,
    UserStatusChanged,
    Withdrawn,
)
from services.domain.instrument import make_instrument
from services.domain.kinds import Side, TradingStatus, UserStatus
from services.domain.money import to_text
from services.domain.order import OrderUpdate
from services.domain.state import ExchangeState
from services.wire.instrument_codec import decode_exchange_rules, decode_rules, encode_exchange_rules, encode_rules
from services.wire.order_codec import decode_update, encode_update, exact_units, put_time
from services.wire.requests import LedgerRequest

Decimals = Mapping[str, int]
_BalanceMessage = ledger_pb2.Deposit | ledger_pb2.Withdraw | ledger_pb2.Lock | ledger_pb2.Unlock | ledger_pb2.BalanceChange


class EncodedBatch(NamedTuple):
    """A batch as stored, and the order updates in it as messages (parts of ``message``), in order."""

    first_sequence: int
    last_sequence: int
    data: bytes
    message: ledger_pb2.LedgerBatch
    updates: list[order_pb2.OrderUpdate]


class LedgerUnreadable(Exception):
    """A stored batch says what this program cannot understand; the text names the sequence."""


def encode_batch(
    state: ExchangeState, events: Sequence[Event], request: LedgerRequest, time: int, previous_hash: bytes
) -> EncodedBatch:
    """The batch of ``events``, decided at ``time`` on ``state`` (before they are applied to it) because of ``request``."""
    first = state.sequence + 1
    batch = ledger_pb2.LedgerBatch()
    batch.first_sequence = first
    put_time(batch.timestamp, time)
    batch.previous_hash = previous_hash
    epoch = state.epoch
    updates: list[order_pb2.OrderUpdate] = []
    add = batch.commands.add
    for sequence, event in enumerate(events, first):
        command = add()
        command.sequence = sequence
        if type(event) is OrderUpdate:
            encode_update(event, command.order_update)
            updates.append(command.order_update)
        else:
            if type(event) is EngineStarted:
                epoch = event.epoch
            _ENCODE[type(event)](event, command, state.asset_decimals)
    batch.epoch = epoch
    target = getattr(batch, request.name)
    target.CopyFrom(request.message)
    target.DiscardUnknownFields()
    return EncodedBatch(first, first + len(events) - 1, batch.SerializeToString(), batch, updates)


def decode_events(batch: ledger_pb2.LedgerBatch, state: ExchangeState) -> list[Event]:
    """The events of a batch that follows ``state``. Raises LedgerUnreadable for what this program does not know."""
    events: list[Event] = []
    for command in batch.commands:
        kind = command.WhichOneof("command")
        decode = _DECODE.get(kind) if kind is not None else None
        if decode is None:
            raise LedgerUnreadable(f"sequence {command.sequence} of the ledger is a command that this program does not know")
        try:
            events.append(decode(getattr(command, str(kind)), state))
        except (ValueError, KeyError, DomainError) as error:
            raise LedgerUnreadable(f"sequence {command.sequence} of the ledger cannot be read: {error}") from error
    return events


def _put_change(change: BalanceChange, message: _BalanceMessage, decimals: Decimals) -> None:
    places = decimals[change.asset]
    message.user_id = change.user_id
    message.asset = change.asset
    message.amount = to_text(change.amount, places)
    message.available_after = to_text(change.available_after, places)
    message.held_after = to_text(change.held_after, places)


def _get_change(message: _BalanceMessage, state: ExchangeState) -> BalanceChange:
    places = state.asset_decimals[message.asset]
    return BalanceChange(
        message.user_id,
        message.asset,
        exact_units(message.amount, places),
        exact_units(message.available_after, places),
        exact_units(message.held_after, places),
    )


def _encode_deposited(event: Deposited, command: ledger_pb2.LedgerCommand, decimals: Decimals) -> None:
    _put_change(event.change, command.deposit, decimals)


def _encode_withdrawn(event: Withdrawn, command: ledger_pb2.LedgerCommand, decimals: Decimals) -> None:
    _put_change(event.change, command.withdraw, decimals)


def _encode_locked(event: Locked, command: ledger_pb2.LedgerCommand, decimals: Decimals) -> None:
    _put_change(event.change, command.lock, decimals)
    command.lock.order_id = event.order_id


def _encode_unlocked(event: Unlocked, command: ledger_pb2.LedgerCommand, decimals: Decimals) -> None:
    _put_change(event.change, command.unlock, decimals)
    command.unlock.order_id = event.order_id


def _encode_matched(event: Matched, command: ledger_pb2.LedgerCommand, decimals: Decimals) -> None:
    instrument = event.instrument
    message: Any = command.match_exec
    message.trade_id = event.trade_id
    message.symbol = instrument.symbol
    message.price = to_text(event.price, instrument.price_decimals)
    message.qty = to_text(event.qty, instrument.qty_decimals)
    message.quote = to_text(event.quote, instrument.quote_decimals)
    message.taker_side = event.taker_side
    message.taker_order_id = event.taker_order_id
    message.maker_order_id = event.maker_order_id
    _put_change(event.taker_gives, message.taker_gives, decimals)
    _put_change(event.taker_receives, message.taker_receives, decimals)
    _put_change(event.maker_gives, message.maker_gives, decimals)
    _put_change(event.maker_receives, message.maker_receives, decimals)
    message.taker_fee = to_text(event.taker_fee, decimals[event.taker_receives.asset])
    message.maker_fee = to_text(event.maker_fee, decimals[event.maker_receives.asset])


def _encode_instrument_changed(event: InstrumentChanged, command: ledger_pb2.LedgerCommand, _: Decimals) -> None:
    encode_rules(event.instrument.rules, command.instrument_set.instrument)


def _encode_trading_status_changed(event: TradingStatusChanged, command: ledger_pb2.LedgerCommand, _: Decimals) -> None:
    message: Any = command.trading_status_set
    message.symbol = event.symbol
    message.status = event.status
    message.reason_text = event.reason_text


def _encode_user_status_changed(event: UserStatusChanged, command: ledger_pb2.LedgerCommand, _: Decimals) -> None:
    message: Any = command.user_status_set
    message.user_id = event.user_id
    message.status = event.status
    message.reason_text = event.reason_text


def _encode_mass_cancel_done(event: MassCancelDone, command: ledger_pb2.LedgerCommand, _: Decimals) -> None:
    message = command.mass_cancel_done
    message.user_id = event.user_id
    if event.request_id is not None:
        message.request_id = event.request_id
    message.cancelled_count = event.cancelled_count


def _encode_engine_started(event: EngineStarted, command: ledger_pb2.LedgerCommand, _: Decimals) -> None:
    message = command.engine_started
    message.ledger_id = event.ledger_id
    message.epoch = event.epoch
    message.rules_version = event.rules_version
    message.program_version = event.program_version
    message.rules.CopyFrom(encode_exchange_rules(event.rules))


_ENCODE: Final[dict[type, Callable[[Any, ledger_pb2.LedgerCommand, Decimals], None]]] = {
    Deposited: _encode_deposited,
    Withdrawn: _encode_withdrawn,
    Locked: _encode_locked,
    Unlocked: _encode_unlocked,
    Matched: _encode_matched,
    InstrumentChanged: _encode_instrument_changed,
    TradingStatusChanged: _encode_trading_status_changed,
    UserStatusChanged: _encode_user_status_changed,
    MassCancelDone: _encode_mass_cancel_done,
    EngineStarted: _encode_engine_started,
}


def _decode_deposited(message: ledger_pb2.Deposit, state: ExchangeState) -> Event:
    return Deposited(_get_change(message, state))


def _decode_withdrawn(message: ledger_pb2.Withdraw, state: ExchangeState) -> Event:
    return Withdrawn(_get_change(message, state))


def _decode_locked(message: ledger_pb2.Lock, state: ExchangeState) -> Event:
    return Locked(message.order_id, _get_change(message, state))


def _decode_unlocked(message: ledger_pb2.Unlock, state: ExchangeState) -> Event:
    return Unlocked(message.order_id, _get_change(message, state))


def _decode_matched(message: ledger_pb2.MatchExec, state: ExchangeState) -> Event:
    instrument = state.instruments[message.symbol]
    return Matched(
        message.trade_id,
        instrument,
        exact_units(message.price, instrument.price_decimals),
        exact_units(message.qty, instrument.qty_decimals),
        exact_units(message.quote, instrument.quote_decimals),
        Side(message.taker_side),
        message.taker_order_id,
        message.maker_order_id,
        _get_change(message.taker_gives, state),
        _get_change(message.taker_receives, state),
        _get_change(message.maker_gives, state),
        _get_change(message.maker_receives, state),
        exact_units(message.taker_fee, state.asset_decimals[message.taker_receives.asset]),
        exact_units(message.maker_fee, state.asset_decimals[message.maker_receives.asset]),
    )


def _decode_order_update(message: order_pb2.OrderUpdate, state: ExchangeState) -> Event:
    open_order = state.orders.get(message.order_id)
    known = open_order.terms if open_order is not None and open_order.terms.version == message.version else None
    return decode_update(message, known, state.instruments.get(message.symbol))


def _decode_instrument_set(message: ledger_pb2.InstrumentSet, _: ExchangeState) -> Event:
    return InstrumentChanged(make_instrument(decode_rules(message.instrument)))


def _decode_engine_started(message: ledger_pb2.EngineStarted, _: ExchangeState) -> Event:
    return EngineStarted(
        message.ledger_id,
        message.epoch,
        message.rules_version,
        message.program_version,
        decode_exchange_rules(message.rules),
    )


def _decode_trading_status_set(message: ledger_pb2.TradingStatusSet, _: ExchangeState) -> Event:
    return TradingStatusChanged(message.symbol, TradingStatus(message.status), message.reason_text)


def _decode_user_status_set(message: ledger_pb2.UserStatusSet, _: ExchangeState) -> Event:
    return UserStatusChanged(message.user_id, UserStatus(message.status), message.reason_text)


def _decode_mass_cancel_done(message: ledger_pb2.MassCancelDone, _: ExchangeState) -> Event:
    request_id = message.request_id if message.HasField("request_id") else None
    return MassCancelDone(message.user_id, request_id, message.cancelled_count)


_DECODE: Final[dict[str, Callable[[Any, ExchangeState], Event]]] = {
    "deposit": _decode_deposited,
    "withdraw": _decode_withdrawn,
    "lock": _decode_locked,
    "unlock": _decode_unlocked,
    "match_exec": _decode_matched,
    "order_update": _decode_order_update,
    "instrument_set": _decode_instrument_set,
    "trading_status_set": _decode_trading_status_set,
    "user_status_set": _decode_user_status_set,
    "mass_cancel_done": _decode_mass_cancel_done,
    "engine_started": _decode_engine_started,
}
