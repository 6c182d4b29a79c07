"""Prints what the history received, a JSON line for each ledger command, for people and scripts that want to see the ledger pass
by. Each command is printed once, in order, after it is stored.
"""

import os
from collections.abc import Sequence
from typing import TextIO

import structlog
from google.protobuf.json_format import MessageToJson

from services.order_history.order_processor import ReceivedBatch

log = structlog.stdlib.get_logger(__name__)


class CommandPrinter:
    """Writes to ``output``; a reader that is slow holds the ingest up. When it has left (a closed pipe) nothing is printed any
    more, and the history goes on.
    """

    def __init__(self, output: TextIO) -> None:
        self._output: TextIO | None = output

    def __call__(self, batches: Sequence[ReceivedBatch]) -> None:
        """Print the batches' commands in protobuf's JSON mapping."""
        if self._output is None:
            return
        lines = [MessageToJson(command, indent=None) + "\n" for batch in batches for command in batch.message.commands]
        try:
            self._output.write("".join(lines))
            self._output.flush()
        except BrokenPipeError:
            log.warning("nobody reads the printed commands any more", first_sequence=batches[0].first_sequence)
            # Python flushes its standard output once more when it ends; that must have somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._output.fileno())
            self._output = None
