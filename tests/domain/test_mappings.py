"""Every way an update can read has its names in FIX and at Binance."""

import re

import pytest

from docs.render import CONTRACT
from services.domain.kinds import CancelReason, ExpireReason, OrderStatus, RejectReason
from services.domain.lifecycle import EXEC_TYPES, TRANSITIONS
from services.domain.mappings import ELSEWHERE, ORD_REJ_REASONS, outcomes

ORD_STATUSES = {"0 New", "1 Partially filled", "2 Filled", "4 Canceled", "8 Rejected", "C Expired"}
FIX_EXEC_TYPES = {"0 New", "4 Canceled", "5 Replaced", "8 Rejected", "C Expired", "F Trade", "L Triggered"}
BINANCE_STATUSES = {"NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"}


def test_every_way_an_update_can_read_is_mapped_and_nothing_else() -> None:
    assert set(ELSEWHERE) == set(outcomes())
    assert {(outcome.status, outcome.exec_type) for outcome in outcomes()} == {
        (status, EXEC_TYPES[event]) for (_, event), status in TRANSITIONS.items()
    }


@pytest.mark.parametrize("reason", [*RejectReason, *CancelReason, *ExpireReason])
def test_every_reason_is_mapped_once(reason: RejectReason | CancelReason | ExpireReason) -> None:
    assert sum(outcome.reason is reason for outcome in ELSEWHERE) == 1


def test_only_names_that_fix_and_binance_have_are_used() -> None:
    assert {names.ord_status for names in ELSEWHERE.values()} == ORD_STATUSES
    assert {names.exec_type for names in ELSEWHERE.values()} == FIX_EXEC_TYPES
    assert {names.binance for names in ELSEWHERE.values()} == BINANCE_STATUSES


def test_closed_here_is_closed_there() -> None:
    for outcome, names in ELSEWHERE.items():
        closed = outcome.status not in {OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED}
        assert (names.ord_status[0] in "248C") == closed
        assert (names.binance in {"NEW", "PARTIALLY_FILLED"}) != closed


def test_the_numbers_of_ord_rej_reason_are_those_that_the_contract_says() -> None:
    said = re.findall(r"FIX 103=(\d+)\.\n *REJECT_REASON_(\w+) = ", CONTRACT.read_text())
    assert {RejectReason[name]: int(number) for number, name in said} == ORD_REJ_REASONS
