"""What part (l) asks: each question as a caller sends it, to the one who has few and to the one who has many, with as many rows
in each answer.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from ordertape.v1 import order_history_pb2 as pb
from services.wire.page_token import encode_page_token
from services.wire.position import encode_position
from tests.bench.long_history import SYMBOLS, FillsOf, LongHistory, OrdersOf
from tests.bench.processes import WATCH_ORDERS
from tests.support.ledger_builder import LEDGER_ID

PAGE: Final = 50
_NEAR_THE_END: Final = 100
# A watch that catches up reads 1 000 updates at a time and keeps the last batch of them back, which may go on in the next.
_CAUGHT_UP: Final = 999
_SERVICE: Final = "/ordertape.v1.OrderHistory"
_Asks = Callable[[random.Random], Message]


class Question(NamedTuple):
    """``asks`` makes another request of the kind each time, to few and to many; ``rows`` says how many rows an answer has."""

    what: str
    method: str
    asks: tuple[_Asks, _Asks]
    sizes: tuple[str, str]
    rows: Callable[[bytes], int]
    expected_rows: int

    @property
    def is_watch(self) -> bool:
        """Whether it is the first message of a stream that is asked for."""
        return self.method == WATCH_ORDERS


def questions(history: LongHistory) -> list[Question]:
    """All of them."""
    return [*_of_orders(history.orders), *_of_fills(history.fills)]


def _of_orders(few_and_many: Sequence[OrdersOf]) -> list[Question]:
    few, many = few_and_many
    sizes = f"{few.count:,} orders", f"{many.count:,} orders"

    def question(what: str, method: str, make: Callable[[OrdersOf, random.Random], Message], expected_rows: int) -> Question:
        return Question(what, _path(method), (_bound(make, few), _bound(make, many)), sizes, _ROWS[method], expected_rows)

    return [
        question("GetOrder by id", "GetOrder", _order_by_id, 1),
        question("GetOrder by client_order_id", "GetOrder", _order_by_name, 1),
        question("ListOrderHistory, first page", "ListOrderHistory", _first_orders, PAGE),
        question("ListOrderHistory, a page in the middle", "ListOrderHistory", _middle_orders, PAGE),
        question("ListOrderHistory, last page", "ListOrderHistory", _last_orders, PAGE),
        question("ListOrderHistory of a symbol, first page", "ListOrderHistory", _first_of_symbol, PAGE),
        question("ListOrderHistory of a symbol, in the middle", "ListOrderHistory", _middle_of_symbol, PAGE),
        question("WatchOrders resumed near the end", "WatchOrders", _watch_the_end, _NEAR_THE_END),
        question("WatchOrders resumed in the middle", "WatchOrders", _watch_the_middle, _CAUGHT_UP),
    ]


def _of_fills(few_and_many: Sequence[FillsOf]) -> list[Question]:
    few, many = few_and_many
    sizes = f"{few.count:,} fills", f"{many.count:,} fills"

    def question(what: str, method: str, make: Callable[[FillsOf, random.Random], Message], expected_rows: int) -> Question:
        return Question(what, _path(method), (_bound(make, few), _bound(make, many)), sizes, _ROWS[method], expected_rows)

    return [
        question("GetOrder", "GetOrder", _filled_order, 1),
        question("ListOrderUpdates, first page", "ListOrderUpdates", _first_updates, PAGE),
        question("ListOrderUpdates, a page in the middle", "ListOrderUpdates", _middle_updates, PAGE),
        question("ListOrderUpdates, last page", "ListOrderUpdates", _last_updates, PAGE),
        question("ListFills, first page", "ListFills", _first_fills, PAGE),
        question("ListFills, a page in the middle", "ListFills", _middle_fills, PAGE),
        question("ListFills, last page", "ListFills", _last_fills, PAGE),
    ]


def _bound(make: Callable[[Any, random.Random], Message], flow: OrdersOf | FillsOf) -> _Asks:
    return lambda chance: make(flow, chance)


def _path(method: str) -> str:
    return f"{_SERVICE}/{method}"


def _middle(chance: random.Random, count: int) -> int:
    """A place in the fifth before the middle, so that a page of a short list is full after it too."""
    return chance.randrange(count * 2 // 5, count // 2)


def _order_by_id(flow: OrdersOf, chance: random.Random) -> Message:
    return pb.GetOrderRequest(user_id=flow.user_id, order_id=flow.order_ids[chance.randrange(flow.count)])


def _order_by_name(flow: OrdersOf, chance: random.Random) -> Message:
    return pb.GetOrderRequest(user_id=flow.user_id, client_order_id=flow.name_of(chance.randrange(flow.count)))


def _first_orders(flow: OrdersOf, _chance: random.Random) -> Message:
    return pb.ListOrderHistoryRequest(user_id=flow.user_id, page_size=PAGE)


def _middle_orders(flow: OrdersOf, chance: random.Random) -> Message:
    return _orders_before(flow, _middle(chance, flow.count))


def _last_orders(flow: OrdersOf, _chance: random.Random) -> Message:
    return _orders_before(flow, PAGE)


def _first_of_symbol(flow: OrdersOf, _chance: random.Random) -> Message:
    return pb.ListOrderHistoryRequest(user_id=flow.user_id, page_size=PAGE, symbols=SYMBOLS[:1])


def _middle_of_symbol(flow: OrdersOf, chance: random.Random) -> Message:
    return _orders_before(flow, _middle(chance, flow.count), SYMBOLS[:1])


def _orders_before(flow: OrdersOf, place: int, symbols: Sequence[str] = ()) -> Message:
    request = pb.ListOrderHistoryRequest(user_id=flow.user_id, page_size=PAGE, symbols=symbols)
    request.page_token = encode_page_token(request, flow.key_of(place))
    return request


def _watch_the_end(flow: OrdersOf, _chance: random.Random) -> Message:
    return _watch_after(flow, len(flow.sequences) - _NEAR_THE_END)


def _watch_the_middle(flow: OrdersOf, chance: random.Random) -> Message:
    return _watch_after(flow, _middle(chance, len(flow.sequences)))


def _watch_after(flow: OrdersOf, updates: int) -> Message:
    return pb.WatchOrdersRequest(user_id=flow.user_id, after=encode_position(LEDGER_ID, flow.sequences[updates - 1]))


def _filled_order(flow: FillsOf, _chance: random.Random) -> Message:
    return pb.GetOrderRequest(user_id=flow.user_id, order_id=flow.order_id)


def _first_updates(flow: FillsOf, _chance: random.Random) -> Message:
    return pb.ListOrderUpdatesRequest(user_id=flow.user_id, order_id=flow.order_id, page_size=PAGE)


def _middle_updates(flow: FillsOf, chance: random.Random) -> Message:
    return _updates_after(flow, _middle(chance, flow.count))


def _last_updates(flow: FillsOf, _chance: random.Random) -> Message:
    return _updates_after(flow, flow.count - PAGE)


def _updates_after(flow: FillsOf, fills: int) -> Message:
    request = pb.ListOrderUpdatesRequest(user_id=flow.user_id, order_id=flow.order_id, page_size=PAGE)
    # The fill of number n is the order's update n + 1, for its first is NEW.
    request.page_token = encode_page_token(request, (flow.sequences[fills - 1], fills + 1))
    return request


def _first_fills(flow: FillsOf, _chance: random.Random) -> Message:
    return pb.ListFillsRequest(user_id=flow.user_id, page_size=PAGE)


def _middle_fills(flow: FillsOf, chance: random.Random) -> Message:
    return _fills_before(flow, _middle(chance, flow.count))


def _last_fills(flow: FillsOf, _chance: random.Random) -> Message:
    return _fills_before(flow, PAGE)


def _fills_before(flow: FillsOf, place: int) -> Message:
    request = pb.ListFillsRequest(user_id=flow.user_id, page_size=PAGE)
    request.page_token = encode_page_token(request, (flow.sequences[place],))
    return request


_ROWS: Final[dict[str, Callable[[bytes], int]]] = {
    "GetOrder": lambda answer: int(pb.GetOrderResponse.FromString(answer).HasField("order")),
    "ListOrderHistory": lambda answer: len(pb.ListOrderHistoryResponse.FromString(answer).orders),
    "ListOrderUpdates": lambda answer: len(pb.ListOrderUpdatesResponse.FromString(answer).updates),
    "ListFills": lambda answer: len(pb.ListFillsResponse.FromString(answer).fills),
    "WatchOrders": lambda answer: len(pb.WatchOrdersResponse.FromString(answer).updates.updates),
}
