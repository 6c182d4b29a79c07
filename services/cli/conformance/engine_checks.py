"""What is promised to whoever sends orders: docs/guarantees.md, each line as a check with traders of its own."""

import hashlib
from collections.abc import Iterator
from decimal import Decimal

from ordertape.v1 import error_reason_pb2, instrument_pb2, order_pb2
from ordertape.v1 import ledger_pb2 as feed_pb2
from ordertape.v1 import matching_engine_pb2 as engine_pb2
from services.cli.conformance.expecting import Refusal, expect, expect_refusal, line_of
from services.cli.conformance.stage import Stage, text_of

_ABOVE_ALL = 2**62


def a_deposit_is_made_once(stage: Stage) -> None:
    """Sent twice with one request_id."""
    with stage.traders(1) as (trader,):
        asset = stage.grid.rules.quote_asset
        before = Decimal(trader.balances()[asset][0])
        first, again = (trader.deposit(asset, "5", "five") for _ in range(2))
        expect("replayed, first and again", (False, True), (first.replayed, again.replayed))
        expect("the second answer's balance", first.balance, again.balance)
        expect(f"free {asset}", text_of(before + 5), trader.balances()[asset][0])


def a_placed_order_rests_and_shows(stage: Stage) -> None:
    """An order that meets nobody: its answer, what it holds, and the book."""
    grid = stage.grid
    with stage.traders(1) as (trader,):
        answer = trader.buy(10, -1, client_order_id="resting")
        expect("the answer's updates", [f"NEW NEW 0 {grid.qty(10)}"], [line_of(update) for update in answer.updates])
        update = answer.updates[0]
        expect("its name and price", ("resting", grid.price(-1)), (update.client_order_id, update.price))
        expect("what it holds", grid.money(-1, 10), trader.balances()[grid.rules.quote_asset][1])
        asked = engine_pb2.GetOrderBookRequest(symbol=grid.rules.symbol, depth=500)
        book = stage.engine.GetOrderBook(asked, timeout=stage.timeout_seconds)
        shown = [(level.qty, level.order_count) for level in book.bids if level.price == grid.price(-1)]
        expect("the book at its price", [(grid.qty(10), 1)], shown)


def a_place_that_is_sent_again_is_answered_again(stage: Stage) -> None:
    """The first answer, byte for byte, also after the order has gone on."""
    with stage.traders() as (seller, buyer):
        request = seller.order(order_pb2.SIDE_SELL, 10, 0, client_order_id="again")
        first = seller.place(request)
        buyer.buy(2)
        again = seller.place(request)
        expect("replayed, first and again", (False, True), (first.replayed, again.replayed))
        expect("the updates of the second answer", list(first.updates), list(again.updates))
        expect("the position of the second answer", first.position, again.position)


def a_key_with_other_content_is_refused(stage: Stage) -> None:
    """A client_order_id that was used, with another qty."""
    with stage.traders(1) as (trader,):
        trader.buy(10, client_order_id="key")
        expect_refusal("the other order", lambda: trader.buy(11, client_order_id="key"), "ALREADY_EXISTS", "KEY_REUSED")


def a_cancel_that_is_sent_again_is_answered_again(stage: Stage) -> None:
    """With its request_id; with another one it is too late."""
    with stage.traders(1) as (trader,):
        order_id = trader.buy(10).updates[0].order_id
        first, again = trader.cancel(order_id, "cancel"), trader.cancel(order_id, "cancel")
        expect("replayed, first and again", (False, True), (first.replayed, again.replayed))
        expect("the updates of the second answer", list(first.updates), list(again.updates))
        expect_refusal(
            "another cancel", lambda: trader.cancel(order_id, "later"), "FAILED_PRECONDITION", "ORDER_CLOSED"
        )  # fmt: skip


def a_trade_moves_money_exactly(stage: Stage) -> None:
    """Both balances after a part fill at a better price, with fees rounded up and what was held too much given back."""
    grid, rules = stage.grid, stage.grid.rules
    with stage.traders() as (seller, buyer):
        before = {trader.user_id: trader.balances() for trader in (seller, buyer)}
        seller.sell(3, 0)
        bought = buyer.buy(5, 1).updates
        expect("the buyer's updates", ["NEW", "TRADE"], [line_of(update).split(maxsplit=1)[0] for update in bought])
        quote, base = grid.money(0, 3), grid.qty(3)
        fees = (
            grid.fee(base, rules.taker_fee_rate, rules.base_asset_decimals),
            grid.fee(quote, rules.maker_fee_rate, rules.quote_asset_decimals),
        )

        def free(user_id: str, asset: str, change: Decimal) -> str:
            return text_of(Decimal(before[user_id][asset][0]) + change)

        expected = {
            "buyer": {
                rules.base_asset: (free(buyer.user_id, rules.base_asset, Decimal(base) - fees[0]), "0"),
                rules.quote_asset: (
                    free(buyer.user_id, rules.quote_asset, -Decimal(quote) - Decimal(grid.money(1, 2))),
                    grid.money(1, 2),
                ),
            },
            "seller": {
                rules.base_asset: (free(seller.user_id, rules.base_asset, -Decimal(base)), "0"),
                rules.quote_asset: (free(seller.user_id, rules.quote_asset, Decimal(quote) - fees[1]), "0"),
            },
        }
        expect("the balances", expected, {"buyer": buyer.balances(), "seller": seller.balances()})


def both_sides_carry_the_trade(stage: Stage) -> None:
    """The same trade_id, each with its part in it."""
    with stage.traders() as (seller, buyer):
        order_id = seller.sell(3).updates[0].order_id
        taker = buyer.buy(3).updates[-1].fill
        maker = seller.timeline(order_id)[-1].fill
        expect("trade_id of both", taker.trade_id, maker.trade_id)
        expect(
            "liquidity of both",
            (order_pb2.LIQUIDITY_SIDE_TAKER, order_pb2.LIQUIDITY_SIDE_MAKER),
            (taker.liquidity, maker.liquidity),
        )
        expect("price, qty and quote of both", (taker.price, taker.qty, taker.quote), (maker.price, maker.qty, maker.quote))


def a_replace_needs_the_version_that_it_names(stage: Stage) -> None:
    """ABORTED, and the order stays as it is."""
    with stage.traders(1) as (trader,):
        order_id = trader.buy(10).updates[0].order_id
        expect("version after a replace", 2, trader.replace(order_id, qty=stage.grid.qty(9)).updates[0].version)
        late = {"qty": stage.grid.qty(8), "expected_version": 1}
        expect_refusal("a replace of version 1", lambda: trader.replace(order_id, **late), "ABORTED", "VERSION_MISMATCH")
        expect("its qty", stage.grid.qty(9), trader.get(order_id).qty)


def bad_input_names_every_field(stage: Stage) -> None:
    """All violations at once."""
    with stage.traders(1) as (trader,):
        bad = trader.order(order_pb2.SIDE_BUY, 1, 0, client_order_id="two words", price="1e3", qty="-1")
        expect_refusal(
            "the order", lambda: trader.place(bad), "INVALID_ARGUMENT", "INVALID_REQUEST", "client_order_id", "price", "qty"
        )


def an_unknown_order_is_not_found(stage: Stage) -> None:
    """One that never was, and one of somebody else."""
    with stage.traders() as (trader, other):
        expect_refusal("a cancel", lambda: trader.cancel(_ABOVE_ALL), "NOT_FOUND", "ORDER_NOT_FOUND")
        theirs = other.buy(1).updates[0].order_id
        expect_refusal("a cancel of another user's order", lambda: trader.cancel(theirs), "NOT_FOUND", "ORDER_NOT_FOUND")
        expect_refusal("another user's order", lambda: trader.get(theirs), "NOT_FOUND", "ORDER_NOT_FOUND")


def what_the_exchange_refuses_is_an_answer(stage: Stage) -> None:
    """REJECTED with the first reason in the documented order."""
    grid = stage.grid
    with stage.traders(1) as (trader,):
        finer = text_of(grid.middle + Decimal(grid.rules.price_step) / 10)
        above = text_of(Decimal(grid.rules.qty_max) + grid.unit)
        for reason, request in (
            ("UNKNOWN_SYMBOL", trader.order(order_pb2.SIDE_BUY, 1, 0, symbol=f"{stage.prefix}-NONE")),
            ("PRICE_OFF_STEP", trader.order(order_pb2.SIDE_BUY, 1, 0, price=finer)),
            ("QTY_OUTSIDE_LIMITS", trader.order(order_pb2.SIDE_BUY, 1, 0, qty=above)),
            ("INSUFFICIENT_FUNDS", trader.order(order_pb2.SIDE_SELL, 100_000, 0, qty=_more_than(trader.balances(), stage))),
        ):
            answer = trader.place(request)
            expect(reason, [f"REJECTED REJECTED 0 0 {reason}"], [line_of(update) for update in answer.updates])


def _more_than(balances: dict[str, tuple[str, str]], stage: Stage) -> str:
    return text_of(Decimal(balances[stage.grid.rules.base_asset][0]) + stage.grid.unit)


def a_suspended_user_is_refused_until_readmitted(stage: Stage) -> None:
    """SetUserStatus, on a user of the check's own."""
    with stage.traders(1) as (trader,):
        seen = []
        for status in (instrument_pb2.USER_STATUS_SUSPENDED, instrument_pb2.USER_STATUS_ACTIVE):
            name = instrument_pb2.UserStatus.Name(status)
            request = engine_pb2.SetUserStatusRequest(
                user_id=trader.user_id, status=status, reason_text="conformance", request_id=f"{trader.user_id}-{name}"
            )
            stage.operator.SetUserStatus(request, timeout=stage.timeout_seconds)
            seen.append(line_of(trader.buy(1).updates[0]))
        expect(
            "orders, suspended and readmitted", ["REJECTED REJECTED 0 0 USER_SUSPENDED", f"NEW NEW 0 {stage.grid.qty(1)}"], seen
        )


def a_withdrawal_beyond_what_is_free_is_refused(stage: Stage) -> None:
    """And nothing is booked; what is free can be had."""
    asset = stage.grid.rules.quote_asset
    with stage.traders(1) as (trader,):
        free = trader.balances()[asset][0]

        def withdraw(amount: str, request_id: str) -> engine_pb2.WithdrawResponse:
            request = engine_pb2.WithdrawRequest(user_id=trader.user_id, asset=asset, amount=amount, request_id=request_id)
            return stage.operator.Withdraw(request, timeout=stage.timeout_seconds)

        more = text_of(Decimal(free) + 1)
        expect_refusal("more than is free", lambda: withdraw(more, "more"), "FAILED_PRECONDITION", "INSUFFICIENT_FUNDS")
        expect("the balance before", free, trader.balances()[asset][0])
        expect("free after all was withdrawn", "0", withdraw(free, "all").balance.available)


def one_bad_item_of_many_fails_alone(stage: Stage) -> None:
    """SubmitOrders with a good, a bad and a good item."""
    with stage.traders(1) as (trader,):
        good, bad = trader.order(order_pb2.SIDE_BUY, 1, 0), trader.order(order_pb2.SIDE_BUY, 1, 0, qty="x")
        items = [engine_pb2.SubmitOrdersItem(place=order) for order in (good, bad, good)]
        answer = stage.engine.SubmitOrders(engine_pb2.SubmitOrdersRequest(items=items), timeout=stage.timeout_seconds)
        expect("the results", ["OK", "INVALID_REQUEST naming place.qty", "OK"], [_result(result) for result in answer.results])


def _result(result: engine_pb2.SubmitOrdersResult) -> str:
    if not result.HasField("error"):
        return "OK"
    reason: str = error_reason_pb2.ErrorReason.Name(result.error.reason)
    named = tuple(violation.field for violation in result.error.field_violations)
    return str(Refusal("", reason.removeprefix("ERROR_REASON_"), named)).strip()


def a_session_answers_in_order(stage: Stage) -> None:
    """Three messages of an OrderSession: two orders, then a cancel of the first."""
    with stage.traders(1) as (trader,):

        def messages() -> Iterator[engine_pb2.OrderSessionRequest]:
            for number in (1, 2):
                order = trader.order(order_pb2.SIDE_BUY, 1, 0, client_order_id=f"s{number}")
                yield engine_pb2.OrderSessionRequest(correlation_id=number, items=[engine_pb2.SubmitOrdersItem(place=order)])
            cancel = engine_pb2.CancelOrderRequest(user_id=trader.user_id, client_order_id="s1")
            yield engine_pb2.OrderSessionRequest(correlation_id=3, items=[engine_pb2.SubmitOrdersItem(cancel=cancel)])

        answers = list(stage.engine.OrderSession(messages(), timeout=stage.timeout_seconds))
        seen = [(answer.correlation_id, answer.results[0].updates[0].client_order_id) for answer in answers]
        expect("the answers", [(1, "s1"), (2, "s2"), (3, "s1")], seen)


def a_mass_cancel_ends_what_it_counted(stage: Stage) -> None:
    """A dry run counts and changes nothing; sent again, the count is answered again."""
    with stage.traders(1) as (trader,):
        for _ in range(3):
            trader.buy(1, -1)
        trader.sell(1, 1)

        def cancel_all(**how: object) -> engine_pb2.CancelOrdersResponse:
            request = engine_pb2.CancelOrdersRequest(user_id=trader.user_id, side=order_pb2.SIDE_BUY, **how)  # type: ignore[arg-type]
            return stage.engine.CancelOrders(request, timeout=stage.timeout_seconds)

        counted, first, again = cancel_all(dry_run=True), cancel_all(request_id="all"), cancel_all(request_id="all")
        expect("counted, cancelled, cancelled again", (3, 3, 3), tuple(each.cancelled_count for each in (counted, first, again)))
        expect("replayed, first and again", (False, True), (first.replayed, again.replayed))
        held = trader.balances()[stage.grid.rules.quote_asset][1]
        expect("held for orders to buy", "0", held)


def the_ledger_is_a_chain(stage: Stage) -> None:
    """All batches since the kit began: sequences without a hole, each with the hash of the one before, and the hash that the
    engine tells of the last.
    """
    with stage.traders(1) as (trader,):
        begin = stage.sequence()
        for _ in range(3):
            trader.buy(1)
        end = stage.sequence()
        previous, sequence = b"", begin
        for answer in stage.ledger.ReplayLedger(
            feed_pb2.ReplayLedgerRequest(after_sequence=begin), timeout=stage.timeout_seconds
        ):
            for data in answer.frame.batches:
                batch = feed_pb2.LedgerBatch.FromString(data)
                if batch.first_sequence + len(batch.commands) <= begin + 1 or sequence >= end:
                    continue
                expect("the next batch's sequence", sequence + 1, batch.first_sequence)
                if previous:
                    expect(f"previous_hash at {batch.first_sequence}", previous.hex(), batch.previous_hash.hex())
                previous, sequence = hashlib.sha256(data).digest(), sequence + len(batch.commands)
        expect("where the replay ends", end, sequence)
        status = stage.ledger.GetLedgerStatus(feed_pb2.GetLedgerStatusRequest(at_sequence=end), timeout=stage.timeout_seconds)
        expect("the hash that the engine tells", previous.hex(), status.hash.hex())
