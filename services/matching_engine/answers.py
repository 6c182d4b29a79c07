"""What a mutation's caller gets to see of its batch: the updates of its own order, as far as a message takes them."""

from collections.abc import Sequence
from typing import Final, TypeAlias

from ordertape.v1 import matching_engine_pb2, order_pb2
from services.matching_engine.work import Answer, Outcome, Submitted
from services.wire.errors import CallError

# Clients refuse messages of more than 4 MiB unless told otherwise, so answers stay well below.
UPDATES_BYTES_MAX: Final = 1 << 20

OrderAnswer: TypeAlias = (
    matching_engine_pb2.PlaceOrderResponse
    | matching_engine_pb2.CancelOrderResponse
    | matching_engine_pb2.ReplaceOrderResponse
    | matching_engine_pb2.SubmitOrdersResult
)


def answered(submitted: Submitted) -> Answer:
    """The one answer of a call with one mutation. Raises its CallError where it has none."""
    outcome = submitted.outcomes[0]
    if isinstance(outcome, CallError):
        raise outcome
    return outcome


class AnswerBudget:
    """Shares 1 MiB of updates among the answers of one message: each order's newest update always, then the earlier ones in
    order as far as they fit; the rest is counted.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        self._all_fit = sum(len(answer.batch.data) for answer in answers) <= UPDATES_BYTES_MAX
        self._left = UPDATES_BYTES_MAX
        if not self._all_fit:
            self._left -= sum(_own_updates(answer)[-1].ByteSize() for answer in answers)

    def fill(self, response: OrderAnswer, answer: Answer) -> None:
        """Write an answer into its empty message."""
        own = _own_updates(answer)
        shown = own if self._all_fit else self._fitting(own)
        response.updates.extend(shown)
        response.position = answer.position
        if answer.replayed:
            response.replayed = True
        if len(shown) != len(own):
            response.updates_omitted = len(own) - len(shown)

    def _fitting(self, own: list[order_pb2.OrderUpdate]) -> list[order_pb2.OrderUpdate]:
        for number, update in enumerate(own[:-1]):
            self._left -= update.ByteSize()
            if self._left < 0:
                self._left = 0
                return [*own[:number], own[-1]]
        return own


def _own_updates(answer: Answer) -> list[order_pb2.OrderUpdate]:
    """The updates of the order that the request named: a taker never sees the maker's."""
    updates = answer.batch.updates
    if len(updates) == 1:
        return updates
    order_id = updates[0].order_id
    return [update for update in updates if update.order_id == order_id]
