"""How the engine's processes end, for whoever started them (numbers of sysexits.h)."""

from typing import Final

# EX_DATAERR: the ledger is damaged, or says what this program does not know.
BAD_LEDGER: Final = 65
# EX_OSERR: the address, the folder, the disk or the clock is not as it must be.
OS_ERROR: Final = 71
# EX_TEMPFAIL: another process is at it.
BUSY: Final = 75
# EX_CONFIG: a setting is wrong, or instruments contradict each other.
BAD_CONFIG: Final = 78
