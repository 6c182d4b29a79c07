"""docs/lifecycle.md says what the code does."""

from pathlib import Path

from services.domain.kinds import OrderStatus
from services.domain.lifecycle import TRANSITIONS, OrderEvent

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def test_the_table_on_the_page_is_the_table_in_the_code() -> None:
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| status | Accept"))
    header = [cell.strip() for cell in lines[start].strip("|").split("|")]
    events = list(OrderEvent)
    assert header[1:] == [event.label for event in events]
    shown = {}
    for line in lines[start + 2 : start + 2 + 1 + len(OrderStatus)]:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        status = None if name == "(none)" else OrderStatus[name]
        shown |= {(status, event): OrderStatus[cell] for event, cell in zip(events, cells, strict=True) if cell != "."}
    assert shown == TRANSITIONS
