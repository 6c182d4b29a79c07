"""Requests of every kind, made at random so that they meet: few users, few prices, little money, and a share that is refused."""

import random
from typing import Any, NamedTuple

from google.protobuf.message import Message

from ordertape.v1 import instrument_pb2, ledger_pb2, order_pb2
from ordertape.v1 import matching_engine_pb2 as pb
from tests.model.exchange_model import ExchangeModel
from tests.model.model_parts import DAY, FOK, GTC, GTD, IOC, LIMIT, MARKET, STOP, STOP_LIMIT, Order, timestamp_of

USERS = ("ann", "bob", "cat", "dan")
BTC_USD = instrument_pb2.Instrument(
    symbol="BTC-USD", base_asset="BTC", quote_asset="USD", base_asset_decimals=4, quote_asset_decimals=5, price_decimals=2,
    qty_decimals=3, price_step="0.5", qty_step="0.05", price_min="50", price_max="150", qty_min="0.05", qty_max="20",
    notional_min="10", maker_fee_rate="0.001", taker_fee_rate="0.0025",
)  # fmt: skip
ETH_USD = instrument_pb2.Instrument(
    symbol="ETH-USD", base_asset="ETH", quote_asset="USD", base_asset_decimals=8, quote_asset_decimals=5, price_decimals=1,
    qty_decimals=4, price_step="0.1", qty_step="0.0001", price_min="1", price_max="30", qty_min="0.1", qty_max="100",
    notional_min="1", maker_fee_rate="0", taker_fee_rate="0.001", price_band_rate="0.05",
)  # fmt: skip
INSTRUMENTS = (BTC_USD, ETH_USD)
# Limits so low that random orders come to them.
RULES = {"trades_per_order_max": 5, "open_orders_per_user_max": 8, "session_end_seconds": 79_200}

_PRICES = {"BTC-USD": [f"{half / 2:g}" for half in range(186, 215)], "ETH-USD": [f"{tenth / 10:g}" for tenth in range(92, 109)]}
_ODD_PRICES = {"BTC-USD": ["100.25", "49.5", "151", "120"], "ETH-USD": ["10.05", "0.5", "31", "14"]}
_QTYS = {"BTC-USD": ["0.1", "0.15", "0.5", "1", "1", "1.5", "2", "3", "5"], "ETH-USD": ["1", "1.2345", "2", "5", "7.5", "20"]}
_ODD_QTYS = {"BTC-USD": ["0.01", "0.0501", "20.05", "100"], "ETH-USD": ["0.00001", "0.05", "101"]}
_MONEY = ("1", "15", "99.99999", "100", "250.5", "1000", "0.000001")
_PLACES = (
    *((LIMIT, GTC),) * 10, *((LIMIT, GTD),) * 3, *((LIMIT, DAY),) * 2, *((LIMIT, IOC),) * 3, *((LIMIT, FOK),) * 3,
    *((MARKET, IOC),) * 3, *((MARKET, FOK),) * 3, *((STOP, GTC),) * 3, (STOP, GTD), (STOP, DAY),
    *((STOP_LIMIT, GTC),) * 3, (STOP_LIMIT, GTD), (STOP_LIMIT, DAY),
)  # fmt: skip
_ACTIONS = (
    *("place",) * 260, *("replace",) * 60, *("cancel",) * 12, *("deposit",) * 12, *("withdraw",) * 10, *("wait",) * 16,
    *("mass",) * 2, *("force",) * 3, "disconnect", "halt", *("resume",) * 10, "suspend", *("readmit",) * 10, *("instrument",) * 4,
)  # fmt: skip


class Request(NamedTuple):
    """A request by its name in LedgerBatch, or, where ``name`` is empty, ``wait`` microseconds in which nothing happens."""

    name: str
    message: Message | None
    wait: int = 0


class RandomRequests:
    """Makes the next request from what ``chance`` says and the model holds. ``patience`` is how far ahead a GTD order may
    expire, in microseconds. ``disconnects``: sessions can be lost, which no call can bring about.
    """

    def __init__(self, model: ExchangeModel, *, patience: int = 40_000_000, disconnects: bool = True) -> None:
        self._model = model
        self._patience = patience
        self._actions = _ACTIONS if disconnects else tuple(action for action in _ACTIONS if action != "disconnect")
        self._names = 0

    def opening(self) -> list[Request]:
        """Some money for everybody, and hardly any for the last."""
        rich, poor = {"USD": "1000", "BTC": "10", "ETH": "60"}, {"USD": "60", "BTC": "0.5", "ETH": "2"}
        amounts = {user: poor if user == USERS[-1] else rich for user in USERS}
        return [self._deposit_of(user, asset, amount) for user in USERS for asset, amount in amounts[user].items()]

    def closing(self) -> list[Request]:
        """Everybody cancels everything, so that nothing is left to expire."""
        everything = (pb.CancelOrdersRequest(user_id=user, request_id=self._new_key()) for user in USERS)
        return [Request("cancel_orders", request) for request in everything]

    def next(self, chance: random.Random, time: int) -> Request:
        """A request that somebody might send at this time."""
        self._chance, self._user, self._time = chance, chance.choice(USERS), time
        return getattr(self, f"_{chance.choice(self._actions)}")()

    def _wait(self) -> Request:
        long = self._chance.randrange(20) == 0
        return Request("", None, self._chance.randrange(86_400_000_000 if long else self._patience))

    def _place(self) -> Request:
        kind, time_in_force = self._chance.choice(_PLACES)
        symbol = "NO-SUCH" if self._chance.randrange(100) == 0 else self._chance.choice(("BTC-USD", "BTC-USD", "ETH-USD"))
        side = self._chance.choice((order_pb2.SIDE_BUY, order_pb2.SIDE_SELL))
        fields: dict[str, Any] = {}
        if kind in (LIMIT, STOP_LIMIT):
            prices = [_one_of(self._chance, symbol, _PRICES, _ODD_PRICES) for _ in range(self._chance.choice((1, 2, 3)))]
            fields["price"] = (min if side == order_pb2.SIDE_BUY else max)(prices, key=float)
        if kind in (STOP, STOP_LIMIT):
            fields["stop_price"] = _one_of(self._chance, symbol, _PRICES, _ODD_PRICES)
        if kind in (MARKET, STOP) and side == order_pb2.SIDE_BUY and self._chance.randrange(2):
            fields["quote_qty"] = self._chance.choice(_MONEY)
        else:
            fields["qty"] = _one_of(self._chance, symbol, _QTYS, _ODD_QTYS)
        if kind == LIMIT and time_in_force in (GTC, GTD, DAY):
            fields["post_only"] = self._chance.randrange(8) == 0
            if self._chance.randrange(3) == 0:
                display = _one_of(self._chance, symbol, _QTYS, _ODD_QTYS)
                fields["display_qty"] = min(display, fields["qty"], key=float)
        if time_in_force == GTD:
            fields["expire_time"] = timestamp_of(self._time + self._chance.randrange(-self._patience // 20, self._patience))
        if self._chance.randrange(3) == 0:
            self._names += 1
            fields["client_order_id"] = f"c{self._names}"
        request = pb.PlaceOrderRequest(
            user_id=self._user, symbol=symbol, side=side, order_type=kind, time_in_force=time_in_force,
            self_trade_prevention=self._chance.choice((1, 1, 2, 3, 4)), **fields,
        )  # fmt: skip
        return Request("place_order", request)

    def _replace(self) -> Request:
        order, named = self._some_order()
        symbol = order.symbol if order is not None else "BTC-USD"
        names = [name for name in ("price", "qty", "stop_price", "display_qty") if order is None or order.request.HasField(name)]
        if self._chance.randrange(12) == 0 or not names:
            names = ["price", "qty", "stop_price", "display_qty"]
        fields = {
            name: _one_of(self._chance, symbol, *((_QTYS, _ODD_QTYS) if "qty" in name else (_PRICES, _ODD_PRICES)))
            for name in set(self._chance.choices(names, k=self._chance.choice((1, 1, 2))))
        }
        if order is not None and self._chance.randrange(6) == 0:
            fields["expected_version"] = self._chance.choice((order.version, order.version, order.version + 1))
        return Request("replace_order", pb.ReplaceOrderRequest(request_id=self._new_key(), **named, **fields))

    def _cancel(self) -> Request:
        _, named = self._some_order()
        return Request("cancel_order", pb.CancelOrderRequest(request_id=self._new_key(), **named))

    def _deposit(self) -> Request:
        amounts = (("USD", "200"), ("USD", "0.00001"), ("BTC", "2"), ("BTC", "0.00001"), ("ETH", "9.5"))
        if self._chance.randrange(20) == 0:
            amounts = (("NO", "1"), ("USD", "999999999999999999"))
        return self._deposit_of(self._user, *self._chance.choice(amounts))

    def _deposit_of(self, user: str, asset: str, amount: str) -> Request:
        request = pb.DepositRequest(user_id=user, asset=asset, amount=amount, request_id=self._new_key())
        return Request("deposit", request)

    def _withdraw(self) -> Request:
        asset, amount = self._chance.choice(
            (("USD", "100"), ("BTC", "1"), ("ETH", "3.00000001"), ("USD", "0.000001"), ("NO", "1"))
        )
        return Request("withdraw", pb.WithdrawRequest(user_id=self._user, asset=asset, amount=amount, request_id=self._new_key()))

    def _mass(self) -> Request:
        symbols = self._chance.choice(((), ("BTC-USD",), ("ETH-USD", "BTC-USD")))
        side = self._chance.randrange(3)
        request = pb.CancelOrdersRequest(user_id=self._user, request_id=self._new_key(), symbols=symbols, side=side)
        return Request("cancel_orders", request)

    def _halt(self) -> Request:
        return self._trading_status(self._chance.choice(("BTC-USD", "ETH-USD", "NO-SUCH")), instrument_pb2.TRADING_STATUS_HALTED)

    def _resume(self) -> Request:
        symbols = sorted(self._model.halted) or ["BTC-USD"]
        return self._trading_status(self._chance.choice(symbols), instrument_pb2.TRADING_STATUS_TRADING)

    def _trading_status(self, symbol: str, status: int) -> Request:
        request = pb.SetTradingStatusRequest(symbol=symbol, status=status, reason_text="x", request_id=self._new_key())
        return Request("set_trading_status", request)

    def _suspend(self) -> Request:
        return self._user_status(self._user, instrument_pb2.USER_STATUS_SUSPENDED, cancel=bool(self._chance.randrange(2)))

    def _readmit(self) -> Request:
        suspended = sorted(self._model.suspended) or [self._user]
        return self._user_status(self._chance.choice(suspended), instrument_pb2.USER_STATUS_ACTIVE, cancel=False)

    def _user_status(self, user: str, status: int, *, cancel: bool) -> Request:
        request = pb.SetUserStatusRequest(
            user_id=user, status=status, cancel_open_orders=cancel, reason_text="y", request_id=self._new_key()
        )
        return Request("set_user_status", request)

    def _force(self) -> Request:
        order_id = self._chance.randrange(1, self._model.orders + 2)
        if self._model.open and self._chance.randrange(4):
            order_id = self._chance.choice(sorted(self._model.open))
        request = pb.ForceCancelOrderRequest(order_id=order_id, reason_text="z", request_id=self._new_key())
        return Request("force_cancel_order", request)

    def _instrument(self) -> Request:
        request = pb.SetInstrumentRequest(request_id=self._new_key())
        instrument = request.instrument
        instrument.CopyFrom(self._chance.choice(INSTRUMENTS))
        instrument.maker_fee_rate = self._chance.choice(("0", "0.001", "0.0123"))
        instrument.taker_fee_rate = self._chance.choice(("0", "0.002", "0.1"))
        instrument.notional_min = self._chance.choice(("0", "5", "20"))
        if self._chance.randrange(3) == 0:
            instrument.price_band_rate = self._chance.choice(("0.03", "0.5"))
        if self._chance.randrange(3) == 0 and instrument.symbol == "BTC-USD":
            instrument.qty_step, instrument.qty_min = self._chance.choice((("0.1", "0.1"), ("0.05", "0.5")))
        if self._chance.randrange(6) == 0:
            instrument.price_decimals -= 1
        return Request("set_instrument", request)

    def _disconnect(self) -> Request:
        if any(order.user == self._user for order in self._model.open.values()):
            return Request("session_lost", ledger_pb2.SessionLost(user_id=self._user))
        return Request("", None, 1)

    def _some_order(self) -> tuple[Order | None, dict[str, Any]]:
        """An order, mostly an open one, and how its user names it; now and then another user does, or there is none."""
        if not self._model.open or self._chance.randrange(15) == 0:
            return None, {"user_id": self._user, "order_id": self._chance.randrange(1, self._model.orders + 2)}
        order = self._model.open[self._chance.choice(sorted(self._model.open))]
        owner = self._user if self._chance.randrange(25) == 0 else order.user
        if order.request.HasField("client_order_id") and self._chance.randrange(2):
            return order, {"user_id": owner, "client_order_id": order.request.client_order_id}
        return order, {"user_id": owner, "order_id": order.order_id}

    def _new_key(self) -> str:
        self._names += 1
        return f"r{self._names}"


def _one_of(chance: random.Random, symbol: str, plain: dict[str, list[str]], odd: dict[str, list[str]]) -> str:
    """A price or qty that fits, or now and then one that does not."""
    return chance.choice((odd if chance.randrange(50) == 0 else plain).get(symbol, ["100"]))
