"""Lives through one order's life on a running exchange, tells it line by line, and checks each step."""

import argparse
import queue
import threading
from decimal import Decimal

from ordertape.client import (
    AlreadyExists,
    Client,
    ErrorReason,
    ExecType,
    InvalidRequest,
    NotFound,
    OrdertapeError,
    OrderUpdate,
    Watch,
)

WAIT_SECONDS = 300.0  # a restart by hand is in the story


class Story:
    """The buyer's and the seller's."""

    def __init__(self, engine: str, history: str, prefix: str) -> None:
        self.buyer = Client(engine, history, user=f"{prefix}.buyer")
        self.seller = Client(engine, history, user=f"{prefix}.seller")
        self.broken = threading.Event()
        self.updates: queue.Queue[OrderUpdate | None] = queue.Queue()
        self.number = 0

    def tell(self) -> None:
        """All of it."""
        with self.buyer, self.seller, self.buyer.watch(interrupted=self.watch_broke) as watch:
            threading.Thread(target=self.read, args=(watch,), daemon=True).start()
            print(f"the buyer has {self.buyer.deposit('USD', 10_000).balance.available} USD")
            print(f"the seller has {self.seller.deposit('ETH', 10).balance.available} ETH")
            self.place_and_fill()
            self.replace_and_cancel()
            self.restart_history()
            self.provoke_errors()
        print("everything was as it must be")

    def read(self, watch: Watch) -> None:
        """Runs in a thread of its own: what the watch brings, until it is closed."""
        for news in watch:
            if news.snapshot:
                self.updates.put(None)
            for update in news.updates:
                self.updates.put(update)

    def watch_broke(self, reason: str) -> None:
        """The watch is resumed by itself; the story wants to know when."""
        print(f"the watch broke: {reason}", flush=True)
        self.broken.set()

    def place_and_fill(self) -> None:
        """An order, its safe repeat, and a part fill."""
        require(self.updates.get(timeout=WAIT_SECONDS) is None, "the watch did not begin")
        first = self.buyer.place("ETH-USD", "buy", 2, price=2500, client_order_id="first")
        require(not first.replayed, "the buyer is not new")
        again = self.buyer.place("ETH-USD", "buy", 2, price=2500, client_order_id="first")
        require(again.replayed and again.updates == first.updates, "the repeat was answered otherwise")
        print("placed an order twice, and it is there once")
        self.next_update(ExecType.NEW)
        self.seller.place("ETH-USD", "sell", "0.5", price=2500)
        traded = self.next_update(ExecType.TRADE)
        require((traded.filled_qty, traded.leaves_qty) == (Decimal("0.5"), Decimal("1.5")), "the fill is another")

    def replace_and_cancel(self) -> None:
        """New terms, the end, and the whole timeline in pages; it has the cancel, since the client reads what it wrote."""
        self.buyer.replace("first", price=2400)
        self.next_update(ExecType.REPLACED)
        self.buyer.cancel("first")
        self.next_update(ExecType.CANCELLED)
        timeline = [update.exec_type.name for update in self.buyer.order_updates("first", page_size=3)]
        print(f"timeline: {', '.join(timeline)}")
        require(timeline == ["NEW", "TRADE", "REPLACED", "CANCELLED"], "the timeline is another")

    def restart_history(self) -> None:
        """The watch goes on after the history was away, without loss or repeat."""
        print("restart history", flush=True)
        require(self.broken.wait(WAIT_SECONDS), "the watch did not break")
        self.buyer.place("ETH-USD", "buy", 1, price=2500)
        input()
        self.next_update(ExecType.NEW)
        self.buyer.place("ETH-USD", "buy", 1, price=2500)
        self.next_update(ExecType.NEW)
        require(self.buyer.cancel_orders().cancelled_count == 2, "not both were cancelled")
        self.next_update(ExecType.CANCELLED)
        self.next_update(ExecType.CANCELLED)

    def provoke_errors(self) -> None:
        """Three errors, each of its class, with its reason."""
        try:
            self.buyer.place("ETH-USD", "buy", "1e3", price="-1")
        except InvalidRequest as error:
            self.refused(error, ErrorReason.INVALID_REQUEST)
            require([violation.field for violation in error.violations] == ["price", "qty"], "other fields are wrong")
        try:
            self.buyer.order("unknown")
        except NotFound as error:
            self.refused(error, ErrorReason.ORDER_NOT_FOUND)
        try:
            self.buyer.place("ETH-USD", "buy", 3, price=2500, client_order_id="first")
        except AlreadyExists as error:
            self.refused(error, ErrorReason.KEY_REUSED)
        require(self.refusals == 3, "a call that must be refused was not")

    refusals = 0

    def refused(self, error: OrdertapeError, reason: ErrorReason) -> None:
        """A call was refused, as it must be for this reason."""
        print(f"refused: {error}")
        require(error.reason is reason, f"the reason is {error.reason_name}")
        self.refusals += 1

    def next_update(self, exec_type: ExecType) -> OrderUpdate:
        """The watch's next update; it must be of this type and have the next number."""
        update = self.updates.get(timeout=WAIT_SECONDS)
        if update is None:
            raise SystemExit("story: the watch began anew")
        print(f"watch: update {update.user_update_number}: order {update.order_id}: {update.exec_type}, {update.status}")
        self.number += 1
        require(update.user_update_number == self.number, f"update {self.number} did not come")
        require(update.exec_type is exec_type, f"{exec_type} did not come")
        return update


def require(true: bool, otherwise: str) -> None:
    """End the story where something is not as it must be."""
    if not true:
        raise SystemExit(f"story: {otherwise}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("--history", default="127.0.0.1:50052", metavar="HOST:PORT")
    parser.add_argument("--user", default="story", metavar="PREFIX", help="beginning of two new users' names")
    arguments = parser.parse_args()
    Story(arguments.engine, arguments.history, arguments.user).tell()
