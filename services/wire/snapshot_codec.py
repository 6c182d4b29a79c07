"""The engine's state as the pieces of a snapshot, both ways. What comes back decides everything that follows as what went in
would have: ``ExchangeState.describe`` of both is equal.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from ordertape.v1 import snapshot_pb2
from services.domain.errors import DomainError
from services.domain.events import EngineStarted, Event, InstrumentChanged, TradingStatusChanged
from services.domain.exchange import RULES_VERSION
from services.domain.instrument import make_instrument
from services.domain.kinds import TradingStatus, UserStatus
from services.domain.money import to_text
from services.domain.order import OrderUpdate
from services.domain.state import ExchangeState, UserNumbers
from services.wire.fields import microseconds_of
from services.wire.instrument_codec import decode_exchange_rules, decode_rules, encode_exchange_rules, encode_rules
from services.wire.order_codec import decode_update, encode_update, exact_units, put_time

ENTRIES_MAX: Final = 1000  # users or orders of one piece

Piece = snapshot_pb2.SnapshotPiece
Item = TypeVar("Item")


class SnapshotUnreadable(Exception):
    """The pieces say what cannot be, or what this program does not know."""


class SnapshotHead(NamedTuple):
    """Which state a snapshot is: of which ledger, after which sequence, and the SHA-256 of the batch that ends there."""

    ledger_id: str
    sequence: int
    hash: bytes


def encode_state(state: ExchangeState, last_hash: bytes) -> Iterator[Piece]:
    """The pieces of a state after the batch of this hash, in order. Equal states give equal pieces."""
    users = sorted({*state.users, *state.accounts.users(), *state.suspended})
    head = snapshot_pb2.SnapshotHead(
        ledger_id=state.ledger_id,
        sequence=state.sequence,
        hash=last_hash,
        epoch=state.epoch,
        rules_version=RULES_VERSION,
        rules=encode_exchange_rules(state.rules),
        last_order_id=state.last_order_id,
        last_trade_id=state.last_trade_id,
        mass_cancelled=state.mass_cancelled,
        user_count=len(users),
        order_count=len(state.orders),
    )
    put_time(head.timestamp, state.time)
    _encode_markets(state, head)
    yield Piece(head=head)
    for some_users in _portions(users):
        piece = Piece()
        for user_id in some_users:
            _encode_user(state, user_id, piece.users.users.add())
        yield piece
    for some_orders in _portions(state.orders.all()):
        piece = Piece()
        for order in some_orders:
            encode_update(order, piece.orders.orders.add())
        yield piece


def decode_head(piece: Piece) -> SnapshotHead:
    """What the first piece says that the snapshot is. Raises SnapshotUnreadable."""
    if piece.WhichOneof("piece") != "head":
        raise SnapshotUnreadable("its first piece is no head")
    head = piece.head
    if head.rules_version > RULES_VERSION:
        raise SnapshotUnreadable(
            f"it was made under rules version {head.rules_version}, this program knows them up to {RULES_VERSION}"
        )
    return SnapshotHead(head.ledger_id, head.sequence, head.hash)


def decode_state(pieces: Iterable[Piece]) -> ExchangeState:
    """The state of which these are all the pieces. Raises SnapshotUnreadable."""
    following = iter(pieces)
    first = next(following, Piece())
    decode_head(first)
    try:
        state = _begin(first.head)
        user_count = 0
        orders: list[OrderUpdate] = []
        for piece in following:
            kind = piece.WhichOneof("piece")
            if kind == "users":
                user_count += len(piece.users.users)
                for user in piece.users.users:
                    _decode_user(user, state)
            elif kind == "orders":
                orders += [decode_update(order, None, state.instruments[order.symbol]) for order in piece.orders.orders]
            else:
                raise SnapshotUnreadable(f"a piece of it is of a kind that has no place there or is not known: {kind}")
        state.restore_orders(orders)
    except (ValueError, LookupError, AssertionError, DomainError) as error:
        raise SnapshotUnreadable(f"it says what cannot be: {error}") from error
    if (user_count, len(state.orders)) != (first.head.user_count, first.head.order_count):
        raise SnapshotUnreadable(
            f"it holds {user_count} users and {len(state.orders)} open orders, "
            f"its head counts {first.head.user_count} and {first.head.order_count}"
        )
    return state


def _begin(head: snapshot_pb2.SnapshotHead) -> ExchangeState:
    """The state but for users and open orders."""
    state = ExchangeState()
    events: list[Event] = [
        EngineStarted(head.ledger_id, head.epoch, head.rules_version, "", decode_exchange_rules(head.rules)),
    ]
    for market in head.instruments:
        events.append(InstrumentChanged(make_instrument(decode_rules(market.instrument))))
        events.append(TradingStatusChanged(market.instrument.symbol, TradingStatus(market.trading_status), ""))
    state.apply(events, 0)
    for market in head.instruments:
        if market.HasField("last_trade_price"):
            price = exact_units(market.last_trade_price, market.instrument.price_decimals)
            state.books[market.instrument.symbol].last_trade_price = price
    for asset in head.assets:
        decimals = state.asset_decimals[asset.asset]
        state.accounts.deposited[asset.asset] = exact_units(asset.deposited, decimals)
        state.accounts.withdrawn[asset.asset] = exact_units(asset.withdrawn, decimals)
        state.accounts.fees[asset.asset] = exact_units(asset.fees, decimals)
    state.sequence = head.sequence
    state.time = microseconds_of(head.timestamp)
    state.last_order_id = head.last_order_id
    state.last_trade_id = head.last_trade_id
    state.mass_cancelled = head.mass_cancelled
    return state


def _encode_markets(state: ExchangeState, head: snapshot_pb2.SnapshotHead) -> None:
    for symbol, instrument in state.instruments.items():
        market: Any = head.instruments.add()
        encode_rules(instrument.rules, market.instrument)
        market.trading_status = state.trading_status(symbol)
        price = state.books[symbol].last_trade_price
        if price is not None:
            market.last_trade_price = to_text(price, instrument.price_decimals)
    accounts = state.accounts
    for asset, decimals in sorted(state.asset_decimals.items()):
        head.assets.add(
            asset=asset,
            deposited=to_text(accounts.deposited.get(asset, 0), decimals),
            withdrawn=to_text(accounts.withdrawn.get(asset, 0), decimals),
            fees=to_text(accounts.fees.get(asset, 0), decimals),
        )


def _encode_user(state: ExchangeState, user_id: str, message: snapshot_pb2.SnapshotUser) -> None:
    enums: Any = message
    message.user_id = user_id
    enums.user_status = state.user_status(user_id)
    numbers = state.users.get(user_id)
    if numbers is not None:
        message.order_count = numbers.orders
        message.update_count = numbers.updates
    for asset, balance in state.accounts.balances(user_id).items():
        decimals = state.asset_decimals[asset]
        message.balances.add(asset=asset, available=to_text(balance.available, decimals), held=to_text(balance.held, decimals))


def _decode_user(message: snapshot_pb2.SnapshotUser, state: ExchangeState) -> None:
    if UserStatus(message.user_status) == UserStatus.SUSPENDED:
        state.suspended.add(message.user_id)
    if message.order_count:
        state.users[message.user_id] = UserNumbers(message.order_count, message.update_count)
    for balance in message.balances:
        decimals = state.asset_decimals[balance.asset]
        available, held = exact_units(balance.available, decimals), exact_units(balance.held, decimals)
        state.accounts.set(message.user_id, balance.asset, available, held)


def _portions(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    while portion := list(islice(remaining, ENTRIES_MAX)):
        yield portion
