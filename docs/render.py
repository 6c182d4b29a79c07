"""Renders what docs/lifecycle.md says about statuses, events and reasons from the tables in the code and the contract's own
comments, so that the page cannot drift from either. Everything between two marks of the page is rendered, the rest is written.
docs/reference/ is rendered whole: render_reference.py.

    python -m docs.render           writes the pages
    python -m docs.render --check   changes nothing and fails where one is stale
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from docs import render_reference
from services.domain.kinds import CancelReason, ExpireReason, OrderStatus, RejectReason
from services.domain.lifecycle import EXEC_TYPES, OPEN_STATUSES, TRANSITIONS, OrderEvent
from services.domain.mappings import ELSEWHERE, ORD_REJ_REASONS, Reason, outcomes

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lifecycle.md"
CONTRACT = ROOT / "protos" / "ordertape" / "v1" / "order.proto"

_BLOCK = re.compile(r"(<!-- rendered: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ENUM = re.compile(r"^enum (?P<name>\w+) \{\n(?P<body>.*?)^\}", re.DOTALL | re.MULTILINE)
_VALUE = re.compile(r"(?P<comment>(?:^ *//.*\n)+) *(?P<name>[A-Z_]+) = \d+;", re.MULTILINE)
_FIX_TAG = re.compile(r" FIX \d+[^.]*\.$")


def rendered(page: str) -> str:
    """The page with each block rendered anew. Raises KeyError for a block that nobody renders."""
    return _BLOCK.sub(lambda block: f"{block[1]}{BLOCKS[block['name']]()}\n{block[3]}", page)


def transitions() -> str:
    """The table of transitions."""
    rows = []
    for status in (None, *OrderStatus):
        cells = [TRANSITIONS[status, event].name if (status, event) in TRANSITIONS else "." for event in OrderEvent]
        rows.append(["(none)" if status is None else status.name, *cells])
    return _table(["status", *(event.label for event in OrderEvent)], rows)


def diagram() -> str:
    """The transitions as a state diagram; an arrow says the exec_type of its update."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        said = arrows.setdefault(("[*]" if before is None else before.name, after.name), [])
        if EXEC_TYPES[event].name not in said:
            said.append(EXEC_TYPES[event].name)
    lines = [f"    {before} --> {after}: {' or '.join(said)}" for (before, after), said in arrows.items()]
    lines += [f"    {status.name} --> [*]" for status in OrderStatus if status not in OPEN_STATUSES]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def reasons(listed: type[RejectReason] | type[CancelReason] | type[ExpireReason]) -> str:
    """A closed list of reasons, each in the contract's own words."""
    words = meanings(listed.__name__)
    return _table(["reason", "meaning"], ([reason.name, words[reason.name]] for reason in listed))


def elsewhere() -> str:
    """Every way an update can read, and its names in FIX and at Binance."""
    rows = []
    for outcome in outcomes():
        names = ELSEWHERE[outcome]
        cells = [outcome.status.name, outcome.exec_type.name, outcome.reason.name if outcome.reason else ""]
        rows.append([*cells, names.ord_status, names.exec_type, _ord_rej_reason(outcome.reason), names.binance])
    titles = ["status", "exec_type", "reason", "FIX OrdStatus (39)", "FIX ExecType (150)", "FIX OrdRejReason (103)", "Binance"]
    return _table(titles, rows)


def meanings(enum: str) -> dict[str, str]:
    """What the contract says of each value of an enum, without the FIX tag; names without the enum's prefix."""
    body = next(found["body"] for found in _ENUM.finditer(CONTRACT.read_text()) if found["name"] == enum)
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum).upper() + "_"
    found = {}
    for value in _VALUE.finditer(body):
        comment = " ".join(line.strip().removeprefix("// ") for line in value["comment"].splitlines())
        found[value["name"].removeprefix(prefix)] = _FIX_TAG.sub("", comment)
    return found


BLOCKS: dict[str, Callable[[], str]] = {
    "transitions": transitions,
    "diagram": diagram,
    "reject-reasons": lambda: reasons(RejectReason),
    "cancel-reasons": lambda: reasons(CancelReason),
    "expire-reasons": lambda: reasons(ExpireReason),
    "elsewhere": elsewhere,
}


def _ord_rej_reason(reason: Reason | None) -> str:
    return str(ORD_REJ_REASONS[reason]) if isinstance(reason, RejectReason) else ""


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or check them; the exit code."""
    page = PAGE.read_text()
    fresh = rendered(page)
    if "--check" not in arguments:
        PAGE.write_text(fresh)
        render_reference.write()
        return 0
    stale = [] if page == fresh else ["docs/lifecycle.md"]
    stale += [f"docs/reference/{name}" for name in render_reference.stale()]
    if stale:
        print(f"{', '.join(stale)}: stale; run scripts/render-docs and commit what it makes", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
