"""Lives of orders, as docs/lifecycle.md has them: what traders do, and every update that has to come of it, in order. Most are
FIX 4.4's order state changes (Appendix D; the letters in the names). Quantities are units, prices are steps from the middle.

A life is told in lines: what happened, the status after it, filled, left, and why it ended. A quantity in braces is in units.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ordertape.v1 import matching_engine_pb2 as engine_pb2
from ordertape.v1 import order_pb2
from services.cli.conformance.expecting import expect, expect_refusal, line_of
from services.cli.conformance.stage import Stage, Trader

BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
IOC, FOK = order_pb2.TIME_IN_FORCE_IOC, order_pb2.TIME_IN_FORCE_FOK
STOP, STOP_LIMIT = order_pb2.ORDER_TYPE_STOP, order_pb2.ORDER_TYPE_STOP_LIMIT
TOO_LATE = ("FAILED_PRECONDITION", "ORDER_CLOSED")
_UNITS = re.compile(r"\{([\d.]+)\}")


@dataclass(frozen=True, slots=True)
class Step:
    """What a trader does with the order that the scenario calls ``order``. ``fields`` are those of the request; of price, qty and
    the like: in steps and units. ``refused``: the code and reason with which the call has to fail.
    """

    trader: str
    action: str
    order: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done, and each order's life that has to come of it."""

    name: str
    steps: tuple[Step, ...]
    lives: Mapping[str, tuple[str, ...]]


def place(trader: str, order: str, side: int, qty: float | None, price: int | None = 0, **fields: Any) -> Step:
    """A new order: LIMIT, MARKET without a price; other kinds say their order_type."""
    return Step(trader, "place", order, {"side": side, "qty": qty, "price": price, **fields})


def replace(trader: str, order: str, refused: tuple[str, str] | None = None, **fields: Any) -> Step:
    """Other terms."""
    return Step(trader, "replace", order, fields, refused)


def cancel(trader: str, order: str, refused: tuple[str, str] | None = None) -> Step:
    """A cancel."""
    return Step(trader, "cancel", order, {}, refused)


NEW_10 = "NEW NEW 0 {10}"
SCENARIOS = (
    Scenario(
        "A.1.a an order is filled in two parts",
        (place("a", "x", SELL, 10), place("b", "y", BUY, 2), place("b", "z", BUY, 8)),
        {
            "x": (NEW_10, "TRADE PARTIALLY_FILLED {2} {8}", "TRADE FILLED {10} 0"),
            "y": ("NEW NEW 0 {2}", "TRADE FILLED {2} 0"),
            "z": ("NEW NEW 0 {8}", "TRADE FILLED {8} 0"),
        },
    ),
    Scenario(
        "B.1.a an order with nothing filled is cancelled",
        (place("a", "x", SELL, 10), cancel("a", "x")),
        {"x": (NEW_10, "CANCELLED CANCELLED 0 0 USER")},
    ),
    Scenario(
        "B.1.b a part-filled order is cancelled",
        (place("a", "x", SELL, 10), place("b", "y", BUY, 2), cancel("a", "x")),
        {"x": (NEW_10, "TRADE PARTIALLY_FILLED {2} {8}", "CANCELLED CANCELLED {2} 0 USER")},
    ),
    Scenario(
        "B.1.c a filled order can no longer be cancelled",
        (place("a", "x", SELL, 10), place("b", "y", BUY, 10), cancel("a", "x", TOO_LATE)),
        {"x": (NEW_10, "TRADE FILLED {10} 0")},
    ),
    Scenario(
        "C.1.a the qty goes up",
        (place("a", "x", SELL, 10), replace("a", "x", qty=11), place("b", "y", BUY, 11)),
        {"x": (NEW_10, "REPLACED NEW 0 {11}", "TRADE FILLED {11} 0")},
    ),
    Scenario(
        "C.1.c a filled order can no longer be replaced",
        (place("a", "x", SELL, 10), place("b", "y", BUY, 10), replace("a", "x", TOO_LATE, qty=12)),
        {"x": (NEW_10, "TRADE FILLED {10} 0")},
    ),
    Scenario(
        "C.2 a price that crosses trades at once",
        (place("a", "x", SELL, 10, 2), place("b", "y", BUY, 4, 0), replace("a", "x", price=0)),
        {"x": (NEW_10, "REPLACED NEW 0 {10}", "TRADE PARTIALLY_FILLED {4} {6}"), "y": ("NEW NEW 0 {4}", "TRADE FILLED {4} 0")},
    ),
    Scenario(
        "C.3.a the qty goes down and stays above what is filled",
        (place("a", "x", SELL, 10), place("b", "y", BUY, 7), replace("a", "x", qty=8), place("b", "z", BUY, 1)),
        {"x": (NEW_10, "TRADE PARTIALLY_FILLED {7} {3}", "REPLACED PARTIALLY_FILLED {7} {1}", "TRADE FILLED {8} 0")},
    ),
    Scenario(
        "C.3.c the qty goes down below what is filled",
        (place("a", "x", SELL, 10), place("b", "y", BUY, 7), replace("a", "x", qty=6)),
        {"x": (NEW_10, "TRADE PARTIALLY_FILLED {7} {3}", "REPLACED FILLED {7} 0")},
    ),
    Scenario(
        "D.1.a two replaces in a row",
        (place("a", "x", SELL, 10), replace("a", "x", qty=8), replace("a", "x", qty=6, expected_version=2)),
        {"x": (NEW_10, "REPLACED NEW 0 {8}", "REPLACED NEW 0 {6}")},
    ),
    Scenario(
        "D.2.a two replaces of a part-filled order with a fill between them",
        (
            place("a", "x", SELL, 10), place("b", "y", BUY, 2), replace("a", "x", qty=9), place("b", "z", BUY, 3),
            replace("a", "x", qty=7, price=1), place("b", "u", BUY, 2, 1),
        ),
        {
            "x": (
                NEW_10, "TRADE PARTIALLY_FILLED {2} {8}", "REPLACED PARTIALLY_FILLED {2} {7}", "TRADE PARTIALLY_FILLED {5} {4}",
                "REPLACED PARTIALLY_FILLED {5} {2}", "TRADE FILLED {7} 0",
            )
        },
    ),
    Scenario(
        "E.1.b an operator cancels an order",
        (place("a", "x", SELL, 10), place("b", "y", BUY, 2), Step("a", "force_cancel", "x")),
        {"x": (NEW_10, "TRADE PARTIALLY_FILLED {2} {8}", "CANCELLED CANCELLED {2} 0 OPERATOR")},
    ),
    Scenario(
        "I.1.a a fill-or-kill order cannot be filled whole",
        (place("a", "x", SELL, 1), place("b", "y", BUY, 2, time_in_force=FOK)),
        {"x": ("NEW NEW 0 {1}",), "y": ("NEW NEW 0 {2}", "EXPIRED EXPIRED 0 0 FOK_NOT_FILLABLE")},
    ),
    Scenario(
        "I.1.b an immediate-or-cancel order hits not enough",
        (place("a", "x", SELL, 1), place("b", "y", BUY, 2, time_in_force=IOC)),
        {"y": ("NEW NEW 0 {2}", "TRADE PARTIALLY_FILLED {1} {1}", "EXPIRED EXPIRED {1} 0 IOC_REST")},
    ),
    Scenario(
        "a market order by qty takes the best prices first",
        (place("a", "x", SELL, 2, 1), place("a", "y", SELL, 2, 0), place("b", "z", BUY, 3, None)),
        {
            "x": ("NEW NEW 0 {2}", "TRADE PARTIALLY_FILLED {1} {1}"),
            "y": ("NEW NEW 0 {2}", "TRADE FILLED {2} 0"),
            "z": ("NEW NEW 0 {3}", "TRADE PARTIALLY_FILLED {2} {1}", "TRADE FILLED {3} 0"),
        },
    ),
    Scenario(
        "orders at one price trade in the order in which they came",
        (place("a", "x", SELL, 2), place("b", "y", SELL, 2), place("c", "z", BUY, 3)),
        {"x": ("NEW NEW 0 {2}", "TRADE FILLED {2} 0"), "y": ("NEW NEW 0 {2}", "TRADE PARTIALLY_FILLED {1} {1}")},
    ),
    Scenario(
        "less qty keeps an order's place, more loses it",
        (
            place("a", "x", SELL, 4), place("b", "y", SELL, 4), place("a", "z", SELL, 4), replace("a", "x", qty=3),
            replace("b", "y", qty=5), place("c", "u", BUY, 8),
        ),
        {
            "x": ("NEW NEW 0 {4}", "REPLACED NEW 0 {3}", "TRADE FILLED {3} 0"),
            "y": ("NEW NEW 0 {4}", "REPLACED NEW 0 {5}", "TRADE PARTIALLY_FILLED {1} {4}"),
            "z": ("NEW NEW 0 {4}", "TRADE FILLED {4} 0"),
        },
    ),
    Scenario(
        "a post-only order is refused rather than let it take",
        (place("a", "x", SELL, 2), place("b", "y", BUY, 2, post_only=True), place("b", "z", BUY, 2, -1, post_only=True)),
        {"x": ("NEW NEW 0 {2}",), "y": ("REJECTED REJECTED 0 0 POST_ONLY_WOULD_TAKE",), "z": ("NEW NEW 0 {2}",)},
    ),
    Scenario(
        "an iceberg goes to the back of its price with each new tip",
        (place("a", "x", SELL, 6, display_qty=2), place("b", "y", SELL, 2), place("c", "z", BUY, 5)),
        {
            "x": ("NEW NEW 0 {6}", "TRADE PARTIALLY_FILLED {2} {4}", "TRADE PARTIALLY_FILLED {3} {3}"),
            "y": ("NEW NEW 0 {2}", "TRADE FILLED {2} 0"),
        },
    ),
    Scenario(
        "self-trade prevention cancels the taker",
        (place("a", "x", SELL, 2), place("a", "y", BUY, 2, self_trade_prevention=order_pb2.SELF_TRADE_PREVENTION_CANCEL_TAKER)),
        {"x": ("NEW NEW 0 {2}",), "y": ("NEW NEW 0 {2}", "CANCELLED CANCELLED 0 0 SELF_TRADE")},
    ),
    Scenario(
        "self-trade prevention cancels the maker",
        (place("a", "x", SELL, 2), place("a", "y", BUY, 2, self_trade_prevention=order_pb2.SELF_TRADE_PREVENTION_CANCEL_MAKER)),
        {"x": ("NEW NEW 0 {2}", "CANCELLED CANCELLED 0 0 SELF_TRADE"), "y": ("NEW NEW 0 {2}",)},
    ),
    Scenario(
        "a stop order waits for the last trade and takes then",
        (
            place("a", "m", SELL, 1), place("b", "n", BUY, 1), place("b", "s", SELL, 2, None, order_type=STOP, stop_price=-2),
            place("a", "bid", BUY, 4, -2), place("c", "hit", SELL, 1, -2),
        ),
        {
            "s": ("NEW NEW 0 {2}", "TRIGGERED NEW 0 {2}", "TRADE FILLED {2} 0"),
            "bid": ("NEW NEW 0 {4}", "TRADE PARTIALLY_FILLED {1} {3}", "TRADE PARTIALLY_FILLED {3} {1}"),
        },
    ),
    Scenario(
        "a stop-limit order waits for the last trade and rests then",
        (
            place("a", "m", SELL, 1), place("b", "n", BUY, 1), place("b", "s", BUY, 2, 1, order_type=STOP_LIMIT, stop_price=2),
            place("a", "ask", SELL, 1, 2), place("c", "hit", BUY, 1, 2),
        ),
        {"s": ("NEW NEW 0 {2}", "TRIGGERED NEW 0 {2}")},
    ),
)  # fmt: skip


def play(scenario: Scenario, stage: Stage) -> None:
    """Do all steps with new traders and compare the orders' lives, as the history tells them. Raises Mismatch."""
    with stage.traders(3) as found:
        traders = dict(zip("abc", found, strict=True))
        for step in scenario.steps:
            _take(step, traders[step.trader], stage)
        owners = {step.order: traders[step.trader] for step in scenario.steps if step.action == "place"}
        for order, life in scenario.lives.items():
            owner = owners[order]
            wanted = [_UNITS.sub(lambda units: stage.grid.qty(float(units[1])), line) for line in life]
            updates = owner.timeline(owner.orders[order])
            expect(f"the life of {order}", wanted, [line_of(update) for update in updates])
            expect(f"{order} as it stands", updates[-1], owner.get(owner.orders[order]))


def _take(step: Step, trader: Trader, stage: Stage) -> None:
    if step.refused is not None:
        expect_refusal(f"{step.action} {step.order}", lambda: _send(step, trader, stage), *step.refused)
        return
    answer = _send(step, trader, stage)
    if step.action == "place":
        trader.orders[step.order] = answer.updates[0].order_id


def _send(step: Step, trader: Trader, stage: Stage) -> Any:
    if step.action == "place":
        fields = dict(step.fields)
        side, qty, price = fields.pop("side"), fields.pop("qty"), fields.pop("price")
        return trader.place(trader.order(side, qty, price, **_in_words(fields, stage)))
    order_id = trader.orders[step.order]
    if step.action == "replace":
        return trader.replace(order_id, **_in_words(step.fields, stage))
    if step.action == "force_cancel":
        request = engine_pb2.ForceCancelOrderRequest(
            order_id=order_id, reason_text="conformance", request_id=f"{stage.prefix}-force-{order_id}"
        )
        return stage.operator.ForceCancelOrder(request, timeout=stage.timeout_seconds)
    return trader.cancel(order_id)


def _in_words(fields: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Steps and units as the decimals that they are on the instrument."""
    ways = {"price": stage.grid.price, "stop_price": stage.grid.price, "qty": stage.grid.qty, "display_qty": stage.grid.qty}
    return {name: ways[name](value) if name in ways else value for name, value in fields.items()}
