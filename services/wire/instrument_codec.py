"""Instruments and the exchange's rules, both ways. Both sides say them in decimal text and numbers under the same names."""

from ordertape.v1 import instrument_pb2, ledger_pb2
from services.domain.events import ExchangeRules
from services.domain.instrument import InstrumentRules

_NAMES = tuple(InstrumentRules.__slots__)


def encode_rules(rules: InstrumentRules, message: instrument_pb2.Instrument) -> None:
    """Write the rules into an empty message."""
    for name in _NAMES:
        value = getattr(rules, name)
        if value is not None:
            setattr(message, name, value)


def decode_rules(message: instrument_pb2.Instrument) -> InstrumentRules:
    """The rules that the message says."""
    values = {name: getattr(message, name) for name in _NAMES}
    if not message.HasField("price_band_rate"):
        values["price_band_rate"] = None
    return InstrumentRules(**values)


def encode_exchange_rules(rules: ExchangeRules) -> ledger_pb2.ExchangeRules:
    """The rules of the whole exchange as a message."""
    return ledger_pb2.ExchangeRules(
        trades_per_order_max=rules.trades_per_order_max,
        open_orders_per_user_max=rules.open_orders_per_user_max,
        session_end_seconds=rules.session_end_seconds,
    )


def decode_exchange_rules(message: ledger_pb2.ExchangeRules) -> ExchangeRules:
    """The rules that the message says."""
    return ExchangeRules(message.trades_per_order_max, message.open_orders_per_user_max, message.session_end_seconds)
