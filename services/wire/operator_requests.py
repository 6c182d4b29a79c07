"""Requests of the operator: checks what the message alone can show and makes the core's command of it."""

from typing import Final

from ordertape.v1 import instrument_pb2, matching_engine_pb2
from services.domain.commands import ApplyConfig, ForceCancel, SetTradingStatus, SetUserStatus
from services.domain.kinds import TradingStatus, UserStatus
from services.domain.money import canonical
from services.wire.fields import DECIMAL, Violations
from services.wire.instrument_codec import decode_rules

REASON_TEXT_MAX: Final = 1000
_NAMES: Final = ("symbol", "base_asset", "quote_asset")
_ABOVE_ZERO: Final = ("price_step", "qty_step", "price_min", "price_max", "qty_min", "qty_max")
_FROM_ZERO: Final = ("notional_min", "maker_fee_rate", "taker_fee_rate")


def trading_status_command(request: matching_engine_pb2.SetTradingStatusRequest) -> SetTradingStatus:
    """Check the request. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    violations = Violations()
    violations.identifier("symbol", request.symbol)
    violations.enum("status", request.status, instrument_pb2.TradingStatus)
    _check_reason_and_key(request.reason_text, request.request_id, violations)
    return SetTradingStatus(request.symbol, TradingStatus(request.status), request.reason_text)


def user_status_command(request: matching_engine_pb2.SetUserStatusRequest) -> SetUserStatus:
    """Check the request. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    violations = Violations()
    violations.identifier("user_id", request.user_id)
    violations.enum("status", request.status, instrument_pb2.UserStatus)
    if request.cancel_open_orders and request.status == instrument_pb2.USER_STATUS_ACTIVE:
        violations.add("cancel_open_orders", "goes with SUSPENDED alone")
    _check_reason_and_key(request.reason_text, request.request_id, violations)
    return SetUserStatus(request.user_id, UserStatus(request.status), request.cancel_open_orders, request.reason_text)


def force_cancel_command(request: matching_engine_pb2.ForceCancelOrderRequest) -> ForceCancel:
    """Check the request. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    violations = Violations()
    violations.sequence_number("order_id", request.order_id)
    _check_reason_and_key(request.reason_text, request.request_id, violations)
    return ForceCancel(request.order_id, request.reason_text)


def set_instrument_command(request: matching_engine_pb2.SetInstrumentRequest) -> ApplyConfig:
    """Check the request. Raises CallError INVALID_ARGUMENT with every rule that it breaks."""
    violations = Violations()
    instrument = request.instrument
    for name in _NAMES:
        violations.identifier(f"instrument.{name}", getattr(instrument, name))
    for name in _ABOVE_ZERO:
        violations.amount(f"instrument.{name}", getattr(instrument, name))
    from_zero = [*_FROM_ZERO, "price_band_rate"] if instrument.HasField("price_band_rate") else list(_FROM_ZERO)
    for name in from_zero:
        text = getattr(instrument, name)
        if not DECIMAL.fullmatch(text):
            violations.add(f"instrument.{name}", f"must be a plain decimal, is {text[:100]!r}")
    _check_reason_and_key("", request.request_id, violations)
    for name in (*_ABOVE_ZERO, *from_zero):
        setattr(instrument, name, canonical(getattr(instrument, name)))
    return ApplyConfig(decode_rules(instrument))


def _check_reason_and_key(reason_text: str, request_id: str, violations: Violations) -> None:
    if len(reason_text) > REASON_TEXT_MAX:
        violations.add("reason_text", f"must be at most {REASON_TEXT_MAX} characters, is {len(reason_text)}")
    violations.identifier("request_id", request_id)
    violations.raise_if_any()
