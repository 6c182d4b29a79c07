"""Money, instruments and the state as a fold of events."""

import random
from dataclasses import replace

import pytest

from services.domain import errors
from services.domain.commands import ApplyConfig, Cancel, Deposit, Withdraw
from services.domain.exchange import decide
from services.domain.instrument import make_instrument
from services.domain.kinds import OrderType, Side, TimeInForce
from services.domain.money import canonical
from services.domain.order import OrderUpdate
from services.domain.state import ExchangeState
from tests.support.exchange import BTC_USD, Core, place_of


def test_a_refused_command_changes_nothing() -> None:
    core = Core()
    core.deposit("a", USD="5")
    before = core.state.describe()
    for command, refusal in (
        (Withdraw("a", "USD", "6"), errors.InsufficientFunds),
        (Withdraw("a", "EUR", "1"), errors.UnknownAsset),
        (Deposit("a", "BTC", "0.000000001"), errors.AmountOffStep),
        (Deposit("a", "USD", "999999999999999995"), errors.TotalTooLarge),
        (Cancel("a", 7, None, None), errors.OrderNotOpen),
    ):
        with pytest.raises(refusal):
            core.do(command)
    assert core.state.describe() == before


def test_another_users_order_cannot_be_cancelled() -> None:
    core = Core()
    core.deposit("a", USD="1000")
    core.place("a", Side.BUY, price="100", qty="1")
    with pytest.raises(errors.OrderNotOpen):
        core.do(Cancel("b", 1, None, None))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quote_asset_decimals": 9}, "quote_asset_decimals"),
        ({"base_asset_decimals": 7}, "base_asset_decimals"),
        ({"price_decimals": 19}, "price_decimals"),
        ({"price_step": "0.001"}, "price_step"),
        ({"price_step": "0"}, "price_step"),
        ({"qty_min": "0.00005"}, "qty_min"),
        ({"price_max": "0"}, "price_max"),
        ({"qty_max": "1.00001"}, "qty_max"),
        ({"taker_fee_rate": "1"}, "taker_fee_rate"),
        ({"quote_asset": "BTC"}, "quote_asset"),
    ],
)
def test_an_instrument_that_contradicts_itself_is_refused_by_name(changes: dict[str, object], field: str) -> None:
    with pytest.raises(errors.BadInstrument, match=field):
        make_instrument(replace(BTC_USD, **changes))


def test_decimals_never_change_and_instruments_agree_on_their_assets() -> None:
    core = Core()
    with pytest.raises(errors.BadInstrument, match="qty_decimals"):
        core.do(ApplyConfig(replace(BTC_USD, qty_decimals=7, qty_step="0.001", qty_min="0.001")))
    with pytest.raises(errors.BadInstrument, match="USD"):
        core.do(ApplyConfig(replace(BTC_USD, symbol="ETH-USD", base_asset="ETH", quote_asset_decimals=12)))
    core.do(ApplyConfig(replace(BTC_USD, price_step="0.05", price_min="0.05")))
    assert core.state.instruments["BTC-USD"].price_step == 5


def random_flow(core: Core, seed: int, commands: int) -> None:
    chance = random.Random(seed)
    for user in "abc":
        core.deposit(user, USD="100000", BTC="100")
    for number in range(commands):
        user = chance.choice("abc")
        if len(core.state.orders) and chance.random() < 0.25:
            order = chance.choice(list(core.state.orders.all()))
            core.do(Cancel(order.terms.user_id, order.terms.order_id, None, f"r{number}"))
            continue
        side = chance.choice(list(Side))
        changes: dict[str, object] = {
            "client_order_id": f"c{number}",
            "qty": canonical(str(chance.randint(1, 30) / 10)),
            "price": canonical(str(chance.randint(9900, 10100) / 100)),
            "time_in_force": chance.choice((TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)),
        }
        if chance.random() < 0.2:
            changes |= {
                "order_type": OrderType.MARKET,
                "price": None,
                "time_in_force": chance.choice((TimeInForce.IOC, TimeInForce.FOK)),
            }
            if side == Side.BUY and chance.random() < 0.5:
                changes |= {"qty": None, "quote_qty": canonical(str(chance.randint(1, 50000) / 100))}
        core.do(place_of(user, side, **changes))


@pytest.mark.parametrize("seed", range(5))
def test_random_orders_keep_every_promise_of_the_lifecycle(seed: int) -> None:
    core = Core()
    random_flow(core, seed, 600)
    state = core.state
    assert [state.accounts.missing(asset) for asset in ("USD", "BTC")] == [0, 0]
    held: dict[tuple[str, str], int] = {}
    seen: dict[int, OrderUpdate] = {}
    user_numbers: dict[str, int] = {}
    sequence, time = 0, 0
    for _, _, events in core.log:
        for event in events:
            sequence += 1
            if not isinstance(event, OrderUpdate):
                continue
            before = seen.get(event.terms.order_id)
            assert event.sequence == sequence
            assert event.timestamp > time
            time = event.timestamp
            assert event.update_number == (before.update_number + 1 if before else 1)
            assert event.user_update_number == user_numbers.get(event.terms.user_id, 0) + 1
            user_numbers[event.terms.user_id] = event.user_update_number
            assert before is None or before.is_open
            assert before is None or event.filled >= before.filled
            if event.terms.qty is not None and event.leaves is not None:
                assert event.leaves == (event.terms.qty - event.filled if event.is_open else 0)
            if event.terms.quote_qty is not None:
                assert event.leaves_quote == (event.terms.quote_qty - event.cumulative_quote if event.is_open else 0)
            seen[event.terms.order_id] = event
    for order in state.orders.all():
        instrument = order.terms.instrument
        assert instrument is not None
        assert order.leaves is not None
        buys = order.terms.side == Side.BUY
        key = (order.terms.user_id, "USD" if buys else "BTC")
        cost = instrument.quote_of(order.terms.price or 0, order.leaves) if buys else instrument.base_of(order.leaves)
        held[key] = held.get(key, 0) + cost
    for user in "abc":
        for asset in ("USD", "BTC"):
            assert core.balance(user, asset)[1] == held.get((user, asset), 0)
    bid, ask = state.books["BTC-USD"].bids.best_price, state.books["BTC-USD"].asks.best_price
    assert bid is None or ask is None or bid < ask


def test_deciding_changes_nothing_and_folding_the_events_gives_the_same_state() -> None:
    core = Core()
    random_flow(core, 11, 400)
    before = core.state.describe()
    decide(core.state, place_of("a", Side.BUY, price="101", qty="3"), core.time)
    assert core.state.describe() == before
    folded = ExchangeState()
    for _, time, events in core.log:
        folded.apply(events, time)
    assert folded.describe() == before
