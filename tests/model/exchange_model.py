"""The exchange as docs/lifecycle.md tells it, in the slow and plain way: decimal amounts, lists that are sorted and searched anew
each time, holds summed up from the open orders. It reads requests and writes order updates of the contract and shares no code
with the services, so that where the two agree, either both are right or both were misread in the same way.
"""

import copy
from decimal import Decimal, localcontext
from typing import Any

from ordertape.v1 import instrument_pb2, matching_engine_pb2, order_pb2
from tests.model.model_market import CANCELLED, EXPIRED, FILLED, NO_WALK, REJECTED, End, Market
from tests.model.model_parts import (
    DAY,
    DAY_MICROSECONDS,
    EXACT,
    FOK,
    GTD,
    MARKET,
    NEW,
    ZERO,
    Order,
    Refused,
    Rules,
    amount_of,
    order_of,
    time_of,
)

TOO_MUCH = Decimal(10**18)


class ExchangeModel(Market):
    """``do`` each request of the ledger in its order; it says what updates that must bring about, or raises Refused."""

    def do(self, name: str, request: Any, time: int) -> list[order_pb2.OrderUpdate]:
        """Carry out a request at a time in microseconds; ``name`` is its member of LedgerBatch. Raises Refused."""
        self.said = []
        with localcontext(EXACT):
            getattr(self, f"_{name}")(request, time)
        return self.said

    # -- what can be asked at any time

    def due(self, time: int) -> list[Order]:
        """The orders that have to expire by this time, in their order."""
        timed = [order for order in self.open.values() if order.expires is not None and order.expires <= time]
        return sorted(timed, key=lambda order: (order.expires, order.order_id))

    def next_trigger(self) -> int | None:
        """The stop order that has to be triggered now."""
        return min((order.order_id for order in self.open.values() if self._is_reached(order)), default=None)

    # -- requests

    def _start_engine(self, request: Any, _time: int) -> None:
        self.steps_max = request.rules.trades_per_order_max
        self.open_max = request.rules.open_orders_per_user_max
        self.session_end = request.rules.session_end_seconds * 10**6

    def _apply_config(self, request: Any, _time: int) -> None:
        self._set_rules(request.instrument)

    def _set_instrument(self, request: Any, _time: int) -> None:
        self._set_rules(request.instrument)

    def _deposit(self, request: Any, _time: int) -> None:
        amount = self._money(request)
        if self.inside[request.asset] + amount >= TOO_MUCH:
            raise Refused("too much")
        self.owned[request.user_id, request.asset] += amount
        self.inside[request.asset] += amount

    def _withdraw(self, request: Any, _time: int) -> None:
        amount = self._money(request)
        if self.available(request.user_id, request.asset) < amount:
            raise Refused("no money")
        self.owned[request.user_id, request.asset] -= amount
        self.inside[request.asset] -= amount

    def _set_trading_status(self, request: Any, _time: int) -> None:
        if request.symbol not in self.rules:
            raise Refused("unknown symbol")
        halts = request.status == instrument_pb2.TRADING_STATUS_HALTED
        (self.halted.add if halts else self.halted.discard)(request.symbol)

    def _set_user_status(self, request: Any, _time: int) -> None:
        suspends = request.status == instrument_pb2.USER_STATUS_SUSPENDED
        (self.suspended.add if suspends else self.suspended.discard)(request.user_id)
        if request.cancel_open_orders:
            for order in self._orders_of(request.user_id):
                self._close(order, CANCELLED, cancel_reason=order_pb2.CANCEL_REASON_OPERATOR)

    def _place_order(self, request: matching_engine_pb2.PlaceOrderRequest, time: int) -> None:
        self.orders += 1
        self.orders_of[request.user_id] += 1
        expires = time_of(request.expire_time) if request.time_in_force == GTD else None
        if request.time_in_force == DAY:
            expires = time - time % DAY_MICROSECONDS + self.session_end
            expires += DAY_MICROSECONDS if expires <= time else 0
        order = order_of(request, self.orders, self.orders_of[request.user_id], expires)
        reason = self._objection(order, time)
        walk = NO_WALK
        if reason is None:
            walk = NO_WALK if order.waits else self._walk(order)
            fails = request.time_in_force == FOK and walk.end != End.DONE
            if self.need(order, NO_WALK if fails else walk) > self.available(order.user, self.pays_with(order)):
                reason = order_pb2.REJECT_REASON_INSUFFICIENT_FUNDS
        if reason is not None:
            self._close(order, REJECTED, reject_reason=reason)
            return
        self.open[order.order_id] = order
        order.status = NEW
        if order.waits:
            self._say(order, order_pb2.EXEC_TYPE_NEW)
        elif fails:
            self._say(order, order_pb2.EXEC_TYPE_NEW)
            self._close(order, EXPIRED, expire_reason=order_pb2.EXPIRE_REASON_FOK_NOT_FILLABLE)
        else:
            self._say_and_take(order, walk, order_pb2.EXEC_TYPE_NEW)

    def _replace_order(self, request: matching_engine_pb2.ReplaceOrderRequest, _time: int) -> None:
        order = self._named(request)
        if request.HasField("expected_version") and request.expected_version != order.version:
            raise Refused("version")
        if order.user in self.suspended:
            raise Refused("replace")
        changed = self._with_new_terms(order, request)
        walk = NO_WALK
        keeps = order.waits
        filled_by_it = changed.qty is not None and changed.qty <= order.filled
        if filled_by_it:
            changed.qty = order.filled
        else:
            self._check_replaced(changed)
            if not keeps:
                assert changed.qty is not None
                assert order.qty is not None
                keeps = changed.price == order.price and changed.qty <= order.qty and changed.display == order.display
        changed.leaves = None if changed.qty is None else changed.qty - order.filled
        if not keeps and not filled_by_it:
            walk = self._walk(changed)
        if self.need(changed) - self.need(order) > self.available(order.user, self.pays_with(order)):
            raise Refused("replace")
        order.__dict__.update(changed.__dict__)
        order.version += 1
        names = {"request_id": request.request_id} if request.HasField("request_id") else {}
        if filled_by_it:
            self._close(order, FILLED, order_pb2.EXEC_TYPE_REPLACED, **names)
        elif keeps:
            if order.shown:
                order.shown = order.part_shown() if order.display is None else min(order.shown, order.leaves or ZERO)
            self._say(order, order_pb2.EXEC_TYPE_REPLACED, **names)
        else:
            self._leave_book(order)
            self._say_and_take(order, walk, order_pb2.EXEC_TYPE_REPLACED, **names)

    def _cancel_order(self, request: Any, _time: int) -> None:
        names = {"request_id": request.request_id} if request.HasField("request_id") else {}
        self._close(self._named(request), CANCELLED, cancel_reason=order_pb2.CANCEL_REASON_USER, **names)

    def _cancel_orders(self, request: Any, _time: int) -> None:
        names = {"request_id": request.request_id} if request.HasField("request_id") else {}
        for order in self._orders_of(request.user_id):
            if order.symbol in (request.symbols or [order.symbol]) and request.side in (0, order.request.side):
                self._close(order, CANCELLED, cancel_reason=order_pb2.CANCEL_REASON_MASS_CANCEL, **names)

    def _force_cancel_order(self, request: Any, _time: int) -> None:
        order = self.open.get(request.order_id)
        if order is None:
            raise Refused("not open")
        self._close(order, CANCELLED, cancel_reason=order_pb2.CANCEL_REASON_OPERATOR)

    def _session_lost(self, request: Any, _time: int) -> None:
        for order in self._orders_of(request.user_id):
            self._close(order, CANCELLED, cancel_reason=order_pb2.CANCEL_REASON_DISCONNECT)

    def _expire_due(self, _request: Any, time: int) -> None:
        for order in self.due(time):
            day = order.request.time_in_force == DAY
            reason = order_pb2.EXPIRE_REASON_SESSION_END if day else order_pb2.EXPIRE_REASON_GTD_REACHED
            self._close(order, EXPIRED, expire_reason=reason)

    def _trigger_stop(self, request: Any, _time: int) -> None:
        order = self.open[request.order_id]
        held = self.need(order)
        available = self.available(order.user, self.pays_with(order))
        order.triggered = True
        walk = self._walk(order)
        if self.need(order, walk) - held > available:
            self._say(order, order_pb2.EXEC_TYPE_TRIGGERED)
            self._close(order, EXPIRED, expire_reason=order_pb2.EXPIRE_REASON_STOP_NOT_COVERED)
        else:
            self._say_and_take(order, walk, order_pb2.EXEC_TYPE_TRIGGERED)

    # -- rules

    def _objection(self, order: Order, time: int) -> int | None:
        """The first reason to refuse a new order, but for money."""
        request, rules = order.request, self.rules.get(order.symbol)
        if rules is None:
            return order_pb2.REJECT_REASON_UNKNOWN_SYMBOL
        if order.symbol in self.halted:
            return order_pb2.REJECT_REASON_SYMBOL_HALTED
        if order.user in self.suspended:
            return order_pb2.REJECT_REASON_USER_SUSPENDED
        if self.open_max and len(self._orders_of(order.user)) >= self.open_max:
            return order_pb2.REJECT_REASON_TOO_MANY_OPEN_ORDERS
        reason = self._off_step(order, rules) or self._outside_limits(order, rules)
        if reason is not None:
            return reason
        if request.time_in_force == GTD and order.expires is not None and order.expires <= time:
            return order_pb2.REJECT_REASON_EXPIRE_TIME_IN_PAST
        if order.kind == MARKET and not self.resting[order.symbol, not order.buys]:
            return order_pb2.REJECT_REASON_NO_LIQUIDITY
        return order_pb2.REJECT_REASON_POST_ONLY_WOULD_TAKE if self._post_only_would_take(order) else None

    def _off_step(self, order: Order, rules: Rules) -> int | None:
        if any(price is not None and price % rules.price_step for price in (order.price, order.stop)):
            return order_pb2.REJECT_REASON_PRICE_OFF_STEP
        if any(qty is not None and qty % rules.qty_step for qty in (order.qty, order.display)):
            return order_pb2.REJECT_REASON_QTY_OFF_STEP
        if order.money is not None and order.money % Decimal(1).scaleb(-rules.decimals[rules.quote]):
            return order_pb2.REJECT_REASON_QTY_OFF_STEP
        return None

    def _outside_limits(self, order: Order, rules: Rules) -> int | None:
        if any(price is not None and not rules.price_min <= price <= rules.price_max for price in (order.price, order.stop)):
            return order_pb2.REJECT_REASON_PRICE_OUTSIDE_LIMITS
        last = self.last_price.get(order.symbol)
        if (
            rules.band is not None
            and order.price is not None
            and last is not None
            and abs(order.price - last) > last * rules.band
        ):
            return order_pb2.REJECT_REASON_PRICE_OUTSIDE_BAND
        if any(qty is not None and not rules.qty_min <= qty <= rules.qty_max for qty in (order.qty, order.display)):
            return order_pb2.REJECT_REASON_QTY_OUTSIDE_LIMITS
        notional = order.money
        if order.price is not None and order.qty is not None:
            notional = order.price * order.qty
        if notional is None:
            return None
        if notional < rules.notional_min:
            return order_pb2.REJECT_REASON_NOTIONAL_TOO_SMALL
        return order_pb2.REJECT_REASON_NOTIONAL_TOO_LARGE if notional >= TOO_MUCH else None

    def _post_only_would_take(self, order: Order) -> bool:
        against = self.queue(order.symbol, bids=not order.buys)
        return order.request.post_only and bool(against) and order.reaches(against[0].price or ZERO)

    def _with_new_terms(self, order: Order, request: matching_engine_pb2.ReplaceOrderRequest) -> Order:
        changed = copy.copy(order)
        for name, ours in (("price", "price"), ("qty", "qty"), ("stop_price", "stop"), ("display_qty", "display")):
            asked = amount_of(request, name)
            if asked is None:
                continue
            if getattr(order, ours) is None or (ours == "stop" and order.triggered):
                raise Refused("replace")
            setattr(changed, ours, asked)
        same = (order.price, order.qty, order.stop, order.display) == (changed.price, changed.qty, changed.stop, changed.display)
        if same or order.symbol in self.halted or self._off_step(changed, self.rules[order.symbol]) is not None:
            raise Refused("replace")
        return changed

    def _check_replaced(self, changed: Order) -> None:
        hides = changed.display is not None and changed.qty is not None and changed.display > changed.qty
        limits = self._outside_limits(changed, self.rules[changed.symbol])
        if hides or limits is not None or (not changed.waits and self._post_only_would_take(changed)):
            raise Refused("replace")

    def _is_reached(self, order: Order) -> bool:
        last = self.last_price.get(order.symbol)
        if not order.waits or order.symbol in self.halted or last is None or order.stop is None:
            return False
        return last >= order.stop if order.buys else last <= order.stop

    # -- little helpers

    def _orders_of(self, user: str) -> list[Order]:
        return [order for order in self.open.values() if order.user == user]

    def _named(self, request: Any) -> Order:
        for order in self._orders_of(request.user_id):
            by_name = order.request.HasField("client_order_id") and order.request.client_order_id == request.client_order_id
            if by_name if request.HasField("client_order_id") else order.order_id == request.order_id:
                return order
        raise Refused("not open")

    def _money(self, request: Any) -> Decimal:
        decimals = next((rules.decimals[request.asset] for rules in self.rules.values() if request.asset in rules.decimals), None)
        if decimals is None:
            raise Refused("unknown asset")
        if Decimal(request.amount) % Decimal(1).scaleb(-decimals):
            raise Refused("off step")
        return Decimal(request.amount)

    def _set_rules(self, message: instrument_pb2.Instrument) -> None:
        known = self.rules.get(message.symbol)
        fixed = (
            "base_asset", "quote_asset", "price_decimals", "qty_decimals", "base_asset_decimals", "quote_asset_decimals",
        )  # fmt: skip
        if known is not None and any(getattr(known.message, name) != getattr(message, name) for name in fixed):
            raise Refused("instrument")
        self.rules[message.symbol] = Rules(message)
