"""Books, trades and money of the model exchange: what an order meets on its way, and what comes of it."""

from collections import Counter, defaultdict
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from ordertape.v1 import order_pb2
from tests.model.model_parts import OPEN, PARTIALLY_FILLED, ZERO, Order, Rules, text_of, update_of

FILLED, CANCELLED = order_pb2.ORDER_STATUS_FILLED, order_pb2.ORDER_STATUS_CANCELLED
REJECTED, EXPIRED = order_pb2.ORDER_STATUS_REJECTED, order_pb2.ORDER_STATUS_EXPIRED
NO_PREVENTION = order_pb2.SELF_TRADE_PREVENTION_NONE
CANCEL_TAKER, CANCEL_MAKER = order_pb2.SELF_TRADE_PREVENTION_CANCEL_TAKER, order_pb2.SELF_TRADE_PREVENTION_CANCEL_MAKER


class End(Enum):
    """How a walk through the book ends."""

    DONE = 1
    BOOK_ENDED = 2
    TOO_MANY_STEPS = 3
    MET_OWN = 4


class Step(NamedTuple):
    """One meeting with a resting order: a trade, or an own order that is not to be traded with."""

    maker: Order
    price: Decimal
    qty: Decimal
    own: bool


class Walk(NamedTuple):
    """All meetings of an order on its way through the book."""

    steps: list[Step]
    end: End

    @property
    def trades(self) -> list[Step]:
        """The meetings that are trades."""
        return [step for step in self.steps if not step.own]


NO_WALK = Walk([], End.BOOK_ENDED)


class Market:
    """Who owns what, and which order rests where. Holds are summed up from the open orders, queues are sorted anew each time."""

    def __init__(self) -> None:
        self.rules: dict[str, Rules] = {}
        self.owned: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.inside: defaultdict[str, Decimal] = defaultdict(Decimal)  # deposits - withdrawals, by asset
        self.kept: defaultdict[str, Decimal] = defaultdict(Decimal)  # fees, by asset
        self.open: dict[int, Order] = {}
        self.resting: defaultdict[tuple[str, bool], list[Order]] = defaultdict(list)  # in the order of their places
        self.last_price: dict[str, Decimal] = {}
        self.halted: set[str] = set()
        self.suspended: set[str] = set()
        self.trades = 0
        self.orders = 0
        self.orders_of: Counter[str] = Counter()
        self.updates_of: Counter[str] = Counter()
        self.said: list[order_pb2.OrderUpdate] = []
        self.steps_max = self.open_max = self.session_end = 0

    def held(self, user: str, asset: str) -> Decimal:
        """What the user's open orders can still cost."""
        return sum((self.need(o) for o in self.open.values() if o.user == user and self.pays_with(o) == asset), ZERO)

    def available(self, user: str, asset: str) -> Decimal:
        """What the user can spend."""
        return self.owned[user, asset] - self.held(user, asset)

    def missing(self, asset: str) -> Decimal:
        """0, or money was made or lost."""
        return self.inside[asset] - self.kept[asset] - sum(v for (_, name), v in self.owned.items() if name == asset)

    def queue(self, symbol: str, *, bids: bool) -> list[Order]:
        """One side of a book in the order in which it trades."""
        return sorted(self.resting[symbol, bids], key=lambda order: order.price or ZERO, reverse=bids)

    def pays_with(self, order: Order) -> str:
        rules = self.rules[order.symbol]
        return rules.quote if order.buys else rules.base

    def need(self, order: Order, walk: Walk | None = None) -> Decimal:
        """What has to be held for an order; ``walk`` where it is about to take."""
        if order.money_left is not None:
            return order.money_left
        assert order.leaves is not None
        if not order.buys:
            return order.leaves
        if order.price is not None:
            return order.price * order.leaves
        return sum((step.price * step.qty for step in walk.trades), ZERO) if walk is not None else ZERO

    # -- what happens in the book

    def _walk(self, order: Order) -> Walk:
        """What the order meets; nothing changes yet."""
        rules, mode = self.rules[order.symbol], order.request.self_trade_prevention
        against = [[maker, maker.shown, maker.leaves] for maker in self.queue(order.symbol, bids=not order.buys)]
        wanted, money = order.leaves, order.money_left
        steps: list[Step] = []
        while True:
            if wanted == 0 or money == 0:
                return Walk(steps, End.DONE)
            if not against or not order.reaches(against[0][0].price):
                return Walk(steps, End.BOOK_ENDED)
            maker, shown, leaves = against[0]
            able = wanted if money is None else money / maker.price // rules.qty_step * rules.qty_step
            if able == 0:
                return Walk(steps, End.DONE if any(not step.own for step in steps) else End.BOOK_ENDED)
            if len(steps) == self.steps_max:
                return Walk(steps, End.TOO_MANY_STEPS)
            del against[0]
            if maker.user == order.user and mode != NO_PREVENTION:
                steps.append(Step(maker, maker.price, min(able, leaves), own=True))
                if mode != CANCEL_MAKER:
                    return Walk(steps, End.MET_OWN)
                continue
            qty = min(able, shown)
            steps.append(Step(maker, maker.price, qty, own=False))
            wanted, money = (wanted - qty, None) if money is None else (None, money - qty * maker.price)
            if qty < shown:
                against.insert(0, [maker, shown - qty, leaves - qty])
            elif qty < leaves:
                behind = sum(other.price == maker.price for other, _, _ in against)
                against.insert(behind, [maker, min(maker.display, leaves - qty), leaves - qty])

    def _say_and_take(self, order: Order, walk: Walk, exec_type: int, **names: Any) -> None:
        """The order says what it begins with, does what its walk met, and rests or ends with what is left."""
        rests = order.may_rest and walk.end == End.BOOK_ENDED
        if rests and not walk.trades:
            self._enter_book(order)
        self._say(order, exec_type, **names)
        for step in walk.steps:
            if not step.own:
                last = step is walk.trades[-1]
                self._trade(order, step, done=last and walk.end == End.DONE, rests=last and rests)
            elif order.request.self_trade_prevention != CANCEL_TAKER:
                self._close_for_own(step.maker, order, step)
        if order.status not in OPEN or rests:
            return
        if walk.end == End.MET_OWN:
            self._close_for_own(order, walk.steps[-1].maker, walk.steps[-1])
        elif walk.end == End.TOO_MANY_STEPS:
            self._close(order, EXPIRED, expire_reason=order_pb2.EXPIRE_REASON_MATCH_LIMIT)
        elif order.price is None:
            self._close(order, EXPIRED, expire_reason=order_pb2.EXPIRE_REASON_MARKET_REST)
        else:
            self._close(order, EXPIRED, expire_reason=order_pb2.EXPIRE_REASON_IOC_REST)

    def _trade(self, taker: Order, step: Step, *, done: bool, rests: bool) -> None:
        rules, maker, quote = self.rules[taker.symbol], step.maker, step.price * step.qty
        self.trades += 1
        self.last_price[taker.symbol] = step.price
        fees = {}
        for order, rate in ((taker, rules.taker_rate), (maker, rules.maker_rate)):
            (gives, given), (gets, got) = (rules.quote, quote), (rules.base, step.qty)
            if not order.buys:
                (gives, given), (gets, got) = (gets, got), (gives, given)
            fees[order] = rules.fee(gets, got, rate)
            self.owned[order.user, gives] -= given
            self.owned[order.user, gets] += got - fees[order]
            self.kept[gets] += fees[order]
            order.filled += step.qty
            order.spent += quote
            order.fees += fees[order]
            if order.leaves is not None:
                order.leaves -= step.qty
            if order.money_left is not None:
                order.money_left = ZERO if done else order.money_left - quote
        if rests:
            self._enter_book(taker)
        self._traded(taker, step, fees[taker], ends=done, liquidity=order_pb2.LIQUIDITY_SIDE_TAKER)
        maker.shown -= step.qty
        if not maker.shown:
            self._leave_book(maker)
            if maker.leaves:
                self._enter_book(maker)
        self._traded(maker, step, fees[maker], ends=not maker.leaves, liquidity=order_pb2.LIQUIDITY_SIDE_MAKER)

    def _traded(self, order: Order, step: Step, fee: Decimal, *, ends: bool, liquidity: int) -> None:
        rules = self.rules[order.symbol]
        fill = order_pb2.Fill(
            trade_id=self.trades, price=text_of(step.price), qty=text_of(step.qty), quote=text_of(step.price * step.qty),
            fee=text_of(fee), fee_asset=rules.base if order.buys else rules.quote, liquidity=liquidity,
        )  # fmt: skip
        before, order.status = order.status, FILLED if ends else PARTIALLY_FILLED
        if ends:
            del self.open[order.order_id]
        self._say(order, order_pb2.EXEC_TYPE_TRADE, before, fill=fill)

    def _close_for_own(self, order: Order, other: Order, step: Step) -> None:
        prevented = order_pb2.PreventedMatch(order_id=other.order_id, price=text_of(step.price), qty=text_of(step.qty))
        reason = order_pb2.CANCEL_REASON_SELF_TRADE
        self._close(order, CANCELLED, cancel_reason=reason, prevented_match=prevented)

    def _close(self, order: Order, status: int, exec_type: int | None = None, **names: Any) -> None:
        usual = {
            REJECTED: order_pb2.EXEC_TYPE_REJECTED,
            CANCELLED: order_pb2.EXEC_TYPE_CANCELLED,
            EXPIRED: order_pb2.EXEC_TYPE_EXPIRED,
        }
        before, order.status = order.status, status
        order.leaves = None if order.leaves is None else ZERO
        order.money_left = None if order.money_left is None else ZERO
        self._leave_book(order)
        self.open.pop(order.order_id, None)
        self._say(order, exec_type or usual[status], before, **names)

    def _enter_book(self, order: Order) -> None:
        order.shown = order.part_shown()
        self.resting[order.symbol, order.buys].append(order)

    def _leave_book(self, order: Order) -> None:
        order.shown = ZERO
        if order in self.resting[order.symbol, order.buys]:
            self.resting[order.symbol, order.buys].remove(order)

    def _say(self, order: Order, exec_type: int, before: int | None = None, **names: Any) -> None:
        order.updates += 1
        self.updates_of[order.user] += 1
        update = update_of(order, self.rules.get(order.symbol))
        update.exec_type = exec_type
        update.user_update_number = self.updates_of[order.user]
        if order.updates > 1:
            update.previous_status = order.status if before is None else before
        update.MergeFrom(order_pb2.OrderUpdate(**names))
        self.said.append(update)
