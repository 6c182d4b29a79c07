"""Instrument, both ways. Both sides say it in decimal text under the same names."""

from ordertape.v1 import instrument_pb2
from services.domain.instrument import InstrumentRules

_NAMES = tuple(InstrumentRules.__slots__)


def encode_rules(rules: InstrumentRules, message: instrument_pb2.Instrument) -> None:
    """Write the rules into an empty message."""
    for name in _NAMES:
        setattr(message, name, getattr(rules, name))


def decode_rules(message: instrument_pb2.Instrument) -> InstrumentRules:
    """The rules that the message says."""
    return InstrumentRules(**{name: getattr(message, name) for name in _NAMES})
