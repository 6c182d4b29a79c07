"""What a stored batch came from, as the core's command: running it again is the audit of the ledger."""

from collections.abc import Callable
from typing import Any, Final

from ordertape.v1 import ledger_pb2
from services.domain.commands import (
    ApplyConfig,
    Command,
    ExpireDue,
    SessionLost,
    StartEngine,
    TriggerStop,
)
from services.wire.instrument_codec import decode_exchange_rules, decode_rules
from services.wire.operator_requests import (
    force_cancel_command,
    set_instrument_command,
    trading_status_command,
    user_status_command,
)
from services.wire.place_request import place_command
from services.wire.requests import (
    cancel_command,
    cancel_orders_command,
    deposit_command,
    replace_command,
    withdraw_command,
)


def command_of(batch: ledger_pb2.LedgerBatch) -> Command:
    """The core's command that a stored batch came from. Raises ValueError for one that this program does not know."""
    kind = batch.WhichOneof("request")
    make = _COMMANDS.get(kind) if kind is not None else None
    if make is None:
        raise ValueError(f"the request of the batch at {batch.first_sequence} is unknown: {kind}")
    return make(getattr(batch, str(kind)))


def _start_engine(start: ledger_pb2.StartEngine) -> StartEngine:
    rules = decode_exchange_rules(start.rules)
    return StartEngine(start.ledger_id, start.epoch, start.rules_version, start.program_version, rules)


_COMMANDS: Final[dict[str, Callable[[Any], Command]]] = {
    "place_order": place_command,
    "replace_order": replace_command,
    "cancel_order": cancel_command,
    "cancel_orders": cancel_orders_command,
    "deposit": deposit_command,
    "withdraw": withdraw_command,
    "set_trading_status": trading_status_command,
    "set_user_status": user_status_command,
    "force_cancel_order": force_cancel_command,
    "set_instrument": set_instrument_command,
    "start_engine": _start_engine,
    "apply_config": lambda apply: ApplyConfig(decode_rules(apply.instrument)),
    "expire_due": lambda _: ExpireDue(),
    "trigger_stop": lambda stop: TriggerStop(stop.order_id),
    "session_lost": lambda lost: SessionLost(lost.user_id),
}
