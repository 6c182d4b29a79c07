"""What stands where in an engine's data folder: ``ledger`` is the truth; what else is there can be made from it again."""

from typing import Final

LEDGER_FOLDER: Final = "ledger"
SNAPSHOTS_FOLDER: Final = "snapshots"
INDEX_FILE: Final = "engine.db"
