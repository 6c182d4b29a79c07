"""docs/reference/ says all that the contract says, and every link in it leads somewhere."""

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor

from docs import render_reference
from tests.golden.schema import files, message_types

LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDER = render_reference.FOLDER


def test_the_pages_are_fresh() -> None:
    assert render_reference.stale() == [], "run scripts/render-docs"


def test_a_page_that_is_stale_or_of_nothing_is_named_and_mended(tmp_path: Path) -> None:
    render_reference.write(tmp_path)
    assert render_reference.stale(tmp_path) == []
    (tmp_path / "order.md").write_text("stale")
    (tmp_path / "gone.md").write_text("there is no gone.proto")
    (tmp_path / "ledger.md").unlink()
    assert render_reference.stale(tmp_path) == ["gone.md", "ledger.md", "order.md"]
    render_reference.write(tmp_path)
    assert render_reference.stale(tmp_path) == []


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_everything_of_a_file_is_on_its_page(file: FileDescriptor) -> None:
    page = (FOLDER / (Path(file.name).stem + ".md")).read_text()
    for service in file.services_by_name.values():
        assert all(f"### {service.name}.{rpc.name}\n" in page for rpc in service.methods)
    for message in file.message_types_by_name.values():
        section = page.partition(f"### {message.name}\n")[2].partition("\n#")[0]
        missing = [field.name for field in message.fields if f"| {field.number} | `{field.name}` |" not in section]
        assert not missing, message.name
    for enum in file.enum_types_by_name.values():
        section = page.partition(f"### {enum.name}\n")[2].partition("\n#")[0]
        assert all(f"| {value.number} | `{value.name}` |" in section for value in enum.values), enum.name


def test_presence_and_type_of_a_field_are_told() -> None:
    page = (FOLDER / "order.md").read_text()
    assert "| 10 | `price` | `string` | optional | Limit price," in page
    assert "| 27 | `fill` | [Fill](order.md#fill) | optional |" in page
    page = (FOLDER / "matching_engine.md").read_text()
    assert "| 16 | `order_id` | `int64` | one of `order` |" in page
    assert "| 1 | `items` | [SubmitOrdersItem](matching_engine.md#submitordersitem) | list |" in page


def test_what_a_call_can_fail_with_is_a_list_below_it() -> None:
    page = (FOLDER / "matching_engine.md").read_text()
    call = page.partition("### MatchingEngine.CancelOrder\n")[2].partition("###")[0]
    assert "- NOT_FOUND\n- FAILED_PRECONDITION where the order is closed already" in call
    assert "Errors: " not in "".join(path.read_text() for path in FOLDER.glob("*.md"))


def test_every_link_of_the_documentation_leads_to_something_that_is_there() -> None:
    pages = [*FOLDER.glob("*.md"), *FOLDER.parent.glob("*.md"), *(FOLDER.parents[1]).glob("*.md")]
    broken = []
    for page in pages:
        for link in LINK.findall(page.read_text()):
            target, _, anchor = link.partition("#")
            if target.startswith(("http:", "https:")):
                continue
            path = (page.parent / target).resolve() if target else page
            if not path.exists() or (anchor and anchor not in _anchors(path)):
                broken.append(f"{page.name}: {link}")
    assert not broken


def test_every_call_and_message_can_be_reached_from_the_index() -> None:
    index = (FOLDER / "README.md").read_text()
    assert all(f"[{name.rpartition('.')[2]}](" in index for name in message_types())
    assert all(
        f"[{service.name}.{rpc.name}](" in index
        for file in files()
        for service in file.services_by_name.values()
        for rpc in service.methods
    )


def _anchors(page: Path) -> set[str]:
    """As they are made of headings: small letters, no punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
