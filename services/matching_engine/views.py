"""What can be read of the exchange's state, as messages. Called in the sequencer's thread."""

from typing import Any

from ordertape.v1 import matching_engine_pb2
from services.domain.accounts import Balance
from services.domain.book import LevelView
from services.domain.commands import CancelOrders
from services.domain.ending import matching
from services.domain.exchange import find_instrument
from services.domain.instrument import Instrument
from services.domain.money import to_text
from services.domain.state import ExchangeState
from services.wire.instrument_codec import encode_rules
from services.wire.position import encode_position


def count_orders(state: ExchangeState, command: CancelOrders) -> matching_engine_pb2.CancelOrdersResponse:
    """How many open orders a mass cancel means."""
    count = sum(1 for _ in matching(state, command))
    position = encode_position(state.ledger_id, state.sequence)
    return matching_engine_pb2.CancelOrdersResponse(cancelled_count=count, position=position)


def order_book(state: ExchangeState, symbol: str, depth: int) -> matching_engine_pb2.GetOrderBookResponse:
    """The best price levels of one instrument. Raises UnknownSymbol."""
    instrument, book = find_instrument(state, symbol), state.books.get(symbol)
    assert book is not None
    response = matching_engine_pb2.GetOrderBookResponse(
        bids=[_level(view, instrument) for view in book.bids.levels(depth)],
        asks=[_level(view, instrument) for view in book.asks.levels(depth)],
        position=encode_position(state.ledger_id, state.sequence),
    )
    enums: Any = response
    enums.trading_status = state.trading_status(symbol)
    if book.last_trade_price is not None:
        response.last_trade_price = to_text(book.last_trade_price, instrument.price_decimals)
    return response


def _level(view: LevelView, instrument: Instrument) -> matching_engine_pb2.BookLevel:
    return matching_engine_pb2.BookLevel(
        price=to_text(view.price, instrument.price_decimals),
        qty=to_text(view.qty, instrument.qty_decimals),
        order_count=view.order_count,
    )


def instruments(state: ExchangeState) -> matching_engine_pb2.ListInstrumentsResponse:
    """All instruments, by symbol."""
    response = matching_engine_pb2.ListInstrumentsResponse(position=encode_position(state.ledger_id, state.sequence))
    for symbol in sorted(state.instruments):
        encode_rules(state.instruments[symbol].rules, response.instruments.add())
    return response


def balances(state: ExchangeState, user_id: str) -> matching_engine_pb2.ListBalancesResponse:
    """All balances of one user, by asset."""
    found = [_balance(state, asset, balance) for asset, balance in state.accounts.balances(user_id).items()]
    return matching_engine_pb2.ListBalancesResponse(balances=found, position=encode_position(state.ledger_id, state.sequence))


def _balance(state: ExchangeState, asset: str, balance: Balance) -> matching_engine_pb2.Balance:
    decimals = state.asset_decimals[asset]
    return matching_engine_pb2.Balance(
        asset=asset, available=to_text(balance.available, decimals), held=to_text(balance.held, decimals)
    )
