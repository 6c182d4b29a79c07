"""The calls that docs/grpcurl.md shows: the lines as they stand there, what each calls and sends, what is shown of its answer."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "grpcurl.md"
ENGINE, HISTORY = "127.0.0.1:50051", "127.0.0.1:50052"

_BLOCKS = re.compile(r"```sh\n(?P<commands>[^`]*)\n```\n```json\n(?P<shown>[^`]*)\n```\n")
_COMMAND = re.compile(
    r"^(?:timeout \d+ )?(?P<tool>grpcurl|buf curl) [^']*'(?P<data>[^']*)' \S+[ /](?P<method>ordertape\.v1\.\w+/\w+)$"
)


class CallLine(NamedTuple):
    """One command of the page. ``method`` is as in ordertape.v1.Accounts/ListBalances; ``shown`` has no white space."""

    tool: str
    command: str
    method: str
    documents: list[dict[str, Any]]
    shown: list[str]

    def at(self, engine: str, history: str) -> str:
        """The command for an exchange at other addresses."""
        return self.command.replace(ENGINE, engine).replace(HISTORY, history)


@cache
def call_lines(page: Path = PAGE) -> list[CallLine]:
    """All of them, in the page's order. ValueError for a command that is not a call."""
    found = []
    for block in _BLOCKS.finditer(page.read_text()):
        shown = [without_space(line).removesuffix(",") for line in block["shown"].splitlines()]
        for command in re.split(r"\n(?=(?:timeout \d+ )?(?:grpcurl|buf) )", block["commands"]):
            call = _COMMAND.match(command)
            if call is None:
                raise ValueError(f"{page.name} has a line that is no call: {command}")
            found.append(CallLine(call["tool"], command, call["method"], documents_of(call["data"]), shown))
    return found


def documents_of(text: str) -> list[dict[str, Any]]:
    """JSON documents that follow one another."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        document, end = decoder.raw_decode(text, at)
        found.append(document)
        at = len(text) - len(text[end:].lstrip())
    return found


def without_space(text: str) -> str:
    """The text without any white space, as tools differ in theirs."""
    return "".join(text.split())
