"""How the history's processes end, for whoever started them (numbers of sysexits.h)."""

from typing import Final

DIFFERS: Final = 1
"""What was compared is not equal."""
BAD_LEDGER: Final = 65
"""EX_DATAERR: ledger and store do not belong together, or one of them is damaged."""
ENGINE_AWAY: Final = 69
"""EX_UNAVAILABLE: the engine did not answer for longer than it was waited for."""
CANNOT_START: Final = 71
"""EX_OSERR: the store is refused, or the address cannot be listened on."""
STORE_AWAY: Final = 74
"""EX_IOERR: the store could not be reached for longer than it was waited for."""
BAD_CONFIG: Final = 78
"""EX_CONFIG: a setting is wrong."""
SIGNALLED: Final = 128
"""Stopped by a signal, whose number is added."""
