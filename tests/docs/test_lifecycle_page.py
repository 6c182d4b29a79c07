"""docs/lifecycle.md says what the code does, and what the contract says of it."""

from pathlib import Path

import pytest

from docs import render
from services.domain.kinds import CancelReason, ExpireReason, OrderStatus, RejectReason
from services.domain.lifecycle import TRANSITIONS, OrderEvent


def test_the_page_is_fresh() -> None:
    assert render.main(["--check"]) == 0, "run scripts/render-docs"


def test_a_page_that_differs_from_the_code_is_told_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = render.PAGE.read_text()
    page = tmp_path / "lifecycle.md"
    page.write_text(
        fresh.replace("| EXPIRED | EXPIRED | GTD_REACHED | C Expired", "| EXPIRED | EXPIRED | GTD_REACHED | 4 Canceled")
    )
    monkeypatch.setattr(render, "PAGE", page)
    assert render.main(["--check"]) == 1
    assert "scripts/render-docs" in capsys.readouterr().err
    assert page.read_text() != fresh, "a check changes nothing"
    assert render.main([]) == 0
    assert page.read_text() == fresh


def test_every_block_that_can_be_rendered_is_on_the_page() -> None:
    page = render.PAGE.read_text()
    assert [name for name in render.BLOCKS if f"<!-- rendered: {name} -->" not in page] == []


def test_the_table_on_the_page_is_the_table_in_the_code() -> None:
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in render.transitions().splitlines()]
    events = dict(zip(header[1:], OrderEvent, strict=True))
    shown = {
        (None if status == "(none)" else OrderStatus[status], events[label]): OrderStatus[cell]
        for status, *cells in rows
        for label, cell in zip(header[1:], cells, strict=True)
        if cell != "."
    }
    assert shown == TRANSITIONS


def test_the_picture_has_an_arrow_for_each_pair_of_statuses_in_the_table() -> None:
    drawn = {
        tuple(line.split(":")[0].split(" --> ")) for line in render.diagram().replace("    ", "").splitlines() if "-->" in line
    }
    names = {("[*]" if before is None else before.name, after.name) for (before, _), after in TRANSITIONS.items()}
    ends = {(status, "[*]") for status in ("FILLED", "CANCELLED", "REJECTED", "EXPIRED")}
    assert drawn == names | ends


@pytest.mark.parametrize("reasons", [RejectReason, CancelReason, ExpireReason])
def test_every_reason_has_a_meaning_in_the_contract(
    reasons: type[RejectReason] | type[CancelReason] | type[ExpireReason],
) -> None:
    meanings = render.meanings(reasons.__name__)
    assert [name for name in meanings if name != "UNSPECIFIED"] == [reason.name for reason in reasons]
    assert all(meaning.endswith(".") and "FIX" not in meaning for meaning in meanings.values())
