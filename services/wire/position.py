"""Positions: the text that names a place in one ledger. Clients keep it and hand it back; only we look inside."""

import re
from typing import NamedTuple

_GRAMMAR = re.compile(r"([0-9a-f]{16}):(0|[1-9][0-9]{0,18})", re.ASCII)


class Position(NamedTuple):
    """A place in the ledger: the end of the batch whose last command has ``sequence``; 0 is before the first."""

    ledger_id: str
    sequence: int


def encode_position(ledger_id: str, sequence: int) -> str:
    """The position as clients carry it."""
    return f"{ledger_id}:{sequence}"


def decode_position(text: str) -> Position:
    """The position that a client handed back. Raises ValueError where it is none of ours."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a position from an earlier answer, is {text[:100]!r}")
    return Position(match[1], int(match[2]))
