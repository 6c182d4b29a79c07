"""A decision under way: the events so far, and what balances, running numbers and orders would be after them. The state itself
stays as it is, so a decision can be dropped at any point.
"""

from services.domain.events import BalanceChange, Deposited, Event, Locked, Matched, Unlocked, Withdrawn
from services.domain.instrument import RATE_SCALE, Instrument
from services.domain.kinds import CancelReason, ExpireReason, LiquiditySide, RejectReason, Side
from services.domain.lifecycle import EXEC_TYPES, OrderEvent, next_status
from services.domain.money import fee_of
from services.domain.order import Fill, OrderTerms, OrderUpdate, PreventedMatch
from services.domain.state import ExchangeState, UserNumbers


class Draft:
    """Collects the events of one command, decided at ``time`` (microseconds since 1970)."""

    def __init__(self, state: ExchangeState, time: int) -> None:
        self.events: list[Event] = []
        self.time = time
        self._state = state
        self._first_sequence = state.sequence + 1
        self._balances: dict[tuple[str, str], tuple[int, int]] = {}
        self._numbers: dict[str, UserNumbers] = {}
        self._orders: dict[int, OrderUpdate] = {}
        self._trades = 0

    @property
    def next_sequence(self) -> int:
        """The sequence that the next event takes."""
        return self._first_sequence + len(self.events)

    @property
    def next_time(self) -> int:
        """The time that the next event takes."""
        return self.time + len(self.events)

    def newest(self, order: OrderUpdate) -> OrderUpdate:
        """The order as it stands after the events so far."""
        return self._orders.get(order.terms.order_id, order)

    def available(self, user_id: str, asset: str) -> int:
        """What the user has free of the asset after the events so far."""
        return self._balance(user_id, asset)[0]

    def deposit(self, user_id: str, asset: str, amount: int) -> None:
        """Money comes in."""
        self.events.append(Deposited(self._change(user_id, asset, amount, amount, 0)))

    def withdraw(self, user_id: str, asset: str, amount: int) -> None:
        """Available money goes out."""
        self.events.append(Withdrawn(self._change(user_id, asset, amount, -amount, 0)))

    def lock(self, terms: OrderTerms, asset: str, amount: int) -> None:
        """Set money aside for an order; nothing for an amount of 0."""
        if amount:
            self.events.append(Locked(terms.order_id, self._change(terms.user_id, asset, amount, -amount, amount)))

    def unlock(self, terms: OrderTerms, asset: str, amount: int) -> None:
        """Free money set aside for an order; nothing for an amount of 0."""
        if amount:
            self.events.append(Unlocked(terms.order_id, self._change(terms.user_id, asset, amount, amount, -amount)))

    def match(self, taker: OrderTerms, maker: OrderTerms, price: int, qty: int, quote: int) -> tuple[Fill, Fill]:
        """Two orders trade and money moves. Returns the taker's and the maker's view of it."""
        instrument = taker.instrument
        assert instrument is not None
        base = instrument.base_of(qty)
        gives, receives = ((instrument.quote_asset, quote), (instrument.base_asset, base))
        if taker.side == Side.SELL:
            gives, receives = receives, gives
        taker_fee = fee_of(receives[1], instrument.taker_fee_rate, RATE_SCALE)
        maker_fee = fee_of(gives[1], instrument.maker_fee_rate, RATE_SCALE)
        self._trades += 1
        trade_id = self._state.last_trade_id + self._trades
        self.events.append(
            Matched(
                trade_id,
                instrument,
                price,
                qty,
                quote,
                taker.side,
                taker.order_id,
                maker.order_id,
                self._change(taker.user_id, gives[0], gives[1], 0, -gives[1]),
                self._change(taker.user_id, receives[0], receives[1] - taker_fee, receives[1] - taker_fee, 0),
                self._change(maker.user_id, receives[0], receives[1], 0, -receives[1]),
                self._change(maker.user_id, gives[0], gives[1] - maker_fee, gives[1] - maker_fee, 0),
                taker_fee,
                maker_fee,
            )
        )
        return (
            Fill(trade_id, price, qty, quote, LiquiditySide.TAKER, taker_fee),
            Fill(trade_id, price, qty, quote, LiquiditySide.MAKER, maker_fee),
        )

    def accept(self, terms: OrderTerms, visible: int) -> OrderUpdate:
        """The order is NEW, with nothing filled; ``visible`` is what the book shows of it, 0 where it does not rest (yet)."""
        sequence = self.next_sequence
        terms.created_at = self.next_time
        return self._say(
            OrderUpdate(
                terms,
                next_status(None, OrderEvent.ACCEPT),
                EXEC_TYPES[OrderEvent.ACCEPT],
                None,
                sequence,
                self.next_time,
                1,
                self._next_update_number(terms.user_id),
                sequence if visible else 0,
                visible,
                0,
                terms.qty,
                terms.quote_qty,
                0,
                0,
            )
        )

    def reject(self, terms: OrderTerms, reason: RejectReason, reason_text: str) -> None:
        """The order is REJECTED: its only update."""
        terms.created_at = self.next_time
        self._say(
            OrderUpdate(
                terms,
                next_status(None, OrderEvent.REJECT),
                EXEC_TYPES[OrderEvent.REJECT],
                None,
                self.next_sequence,
                self.next_time,
                1,
                self._next_update_number(terms.user_id),
                0,
                0,
                0,
                0 if terms.qty_text is not None else None,
                0 if terms.quote_qty_text is not None else None,
                0,
                0,
                reject_reason=reason,
                reason_text=reason_text,
            )
        )

    def trade(self, order: OrderUpdate, fill: Fill, *, ends: bool, visible: int, new_place: bool) -> OrderUpdate:
        """The order traded; ``ends`` says that it is filled thereby, ``new_place`` that it goes to the back of its price."""
        event = OrderEvent.TRADE_IN_FULL if ends else OrderEvent.TRADE_IN_PART
        sequence = self.next_sequence
        leaves, leaves_quote = order.leaves, order.leaves_quote
        return self._say(
            OrderUpdate(
                order.terms,
                next_status(order.status, event),
                EXEC_TYPES[event],
                order.status,
                sequence,
                self.next_time,
                order.update_number + 1,
                self._next_update_number(order.terms.user_id),
                sequence if new_place else order.queue_sequence,
                visible,
                order.filled + fill.qty,
                None if leaves is None else leaves - fill.qty,
                None if leaves_quote is None else (0 if ends else leaves_quote - fill.quote),
                order.cumulative_quote + fill.quote,
                order.cumulative_fee + fill.fee,
                fill,
                triggered_at=order.triggered_at,
            )
        )

    def replace(
        self, order: OrderUpdate, terms: OrderTerms, *, visible: int, new_place: bool, request_id: str | None
    ) -> OrderUpdate:
        """The order has new terms; one whose qty is filled thereby is over."""
        ends = terms.qty is not None and terms.qty <= order.filled
        event = OrderEvent.REPLACE_TO_FILLED if ends else OrderEvent.REPLACE
        return self._change_order(
            order,
            event,
            terms=terms,
            leaves=None if terms.qty is None else terms.qty - order.filled,
            leaves_quote=order.leaves_quote,
            visible=visible,
            queue_sequence=self.next_sequence if new_place else order.queue_sequence,
            request_id=request_id,
        )

    def trigger(self, order: OrderUpdate, visible: int) -> OrderUpdate:
        """The stop order is triggered."""
        return self._change_order(
            order,
            OrderEvent.TRIGGER,
            leaves=order.leaves,
            leaves_quote=order.leaves_quote,
            visible=visible,
            queue_sequence=self.next_sequence if visible else 0,
            triggered_at=self.next_time,
        )

    def cancel(
        self,
        order: OrderUpdate,
        reason: CancelReason,
        *,
        reason_text: str = "",
        request_id: str | None = None,
        prevented: PreventedMatch | None = None,
    ) -> None:
        """The order is CANCELLED; what was set aside for it must be free already."""
        self._change_order(
            order,
            OrderEvent.CANCEL,
            cancel_reason=reason,
            reason_text=reason_text,
            request_id=request_id,
            prevented_match=prevented,
        )

    def expire(self, order: OrderUpdate, reason: ExpireReason, reason_text: str) -> None:
        """The order is EXPIRED; what was set aside for it must be free already."""
        self._change_order(order, OrderEvent.EXPIRE, expire_reason=reason, reason_text=reason_text)

    def next_order_number(self, user_id: str) -> int:
        """The number of the user's next order."""
        return self._user(user_id).orders + 1

    def _change_order(
        self,
        order: OrderUpdate,
        event: OrderEvent,
        *,
        terms: OrderTerms | None = None,
        leaves: int | None = None,
        leaves_quote: int | None = None,
        visible: int = 0,
        queue_sequence: int | None = None,
        cancel_reason: CancelReason | None = None,
        expire_reason: ExpireReason | None = None,
        reason_text: str = "",
        request_id: str | None = None,
        triggered_at: int | None = None,
        prevented_match: PreventedMatch | None = None,
    ) -> OrderUpdate:
        """Everything that happens to an order but its beginning and its trades; nothing is left open unless ``leaves`` say so."""
        return self._say(
            OrderUpdate(
                terms or order.terms,
                next_status(order.status, event),
                EXEC_TYPES[event],
                order.status,
                self.next_sequence,
                self.next_time,
                order.update_number + 1,
                self._next_update_number(order.terms.user_id),
                order.queue_sequence if queue_sequence is None else queue_sequence,
                visible,
                order.filled,
                None if order.leaves is None else (leaves or 0),
                None if order.leaves_quote is None else (leaves_quote or 0),
                order.cumulative_quote,
                order.cumulative_fee,
                cancel_reason=cancel_reason,
                expire_reason=expire_reason,
                reason_text=reason_text,
                request_id=request_id,
                triggered_at=triggered_at or order.triggered_at,
                prevented_match=prevented_match,
            )
        )

    def _say(self, update: OrderUpdate) -> OrderUpdate:
        self.events.append(update)
        self._orders[update.terms.order_id] = update
        return update

    def _next_update_number(self, user_id: str) -> int:
        numbers = self._user(user_id)
        numbers.updates += 1
        return numbers.updates

    def _user(self, user_id: str) -> UserNumbers:
        numbers = self._numbers.get(user_id)
        if numbers is None:
            known = self._state.users.get(user_id)
            numbers = UserNumbers(known.orders, known.updates) if known is not None else UserNumbers()
            self._numbers[user_id] = numbers
        return numbers

    def _balance(self, user_id: str, asset: str) -> tuple[int, int]:
        return self._balances.get((user_id, asset)) or self._state.accounts.balance(user_id, asset)

    def _change(self, user_id: str, asset: str, amount: int, to_available: int, to_held: int) -> BalanceChange:
        before = self._balance(user_id, asset)
        available, held = before[0] + to_available, before[1] + to_held
        assert available >= 0, f"{user_id} would have {available} of {asset}"
        assert held >= 0, f"{user_id} would hold {held} of {asset}"
        self._balances[user_id, asset] = (available, held)
        return BalanceChange(user_id, asset, amount, available, held)


def held_asset(instrument: Instrument, side: Side) -> str:
    """The asset that an order of ``side`` pays with."""
    return instrument.quote_asset if side == Side.BUY else instrument.base_asset


def held_for(order: OrderUpdate) -> int:
    """What an open order has set aside between two commands: what its leaves can still cost. A stop order to buy a qty at the
    market cannot know that before it is triggered, and has nothing.
    """
    instrument = order.terms.instrument
    assert instrument is not None
    if order.leaves_quote is not None:
        return order.leaves_quote
    assert order.leaves is not None
    if order.terms.side == Side.SELL:
        return instrument.base_of(order.leaves)
    return 0 if order.terms.price is None else instrument.quote_of(order.terms.price, order.leaves)
