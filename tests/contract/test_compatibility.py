"""What breaks the contract of the last release is refused with what to do instead; what adds to it is not."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Change = tuple[str, str, str]

BREAKING: dict[str, tuple[Change, str]] = {
    "a field's number": (("order.proto", r"string fee_asset = 7;", "string fee_asset = 8;"), '"fee_asset" on message "Fill"'),
    "a field's type": (("order.proto", r"int64 version = 17;", "int32 version = 17;"), "changed type"),
    "a field's name": (("order.proto", r"int64 version = 17;", "int64 revision = 17;"), "changed name"),
    "a field's JSON name": (("order.proto", r"version = 17;", 'version = 17 [json_name = "v"];'), '"json_name" from'),
    "a field's presence": (("order.proto", r"optional string price = 10;", "string price = 10;"), "cardinality"),
    "a field that is gone": (("order.proto", r"  string reason_text = 40;\n", ""), "was deleted"),
    "a field that is gone and reserved": (
        ("order.proto", r"string reason_text = 40;", 'reserved 40;\n  reserved "reason_text";'),
        "was deleted",
    ),
    "a field that is a oneof's now": (
        ("order.proto", r"  PreventedMatch prevented_match = 41;", "  oneof what { PreventedMatch prevented_match = 41; }"),
        "oneof",
    ),
    "an RPC that is gone": (("matching_engine.proto", r"  rpc GetOrderBook\(.*\n", ""), 'RPC "GetOrderBook"'),
    "an RPC that streams now": (
        ("matching_engine.proto", r"rpc GetOrderBook\(.*\) returns \(", "rpc GetOrderBook(GetOrderBookRequest) returns (stream "),
        "stream",
    ),
    "a service that is gone": (("matching_engine.proto", r"service Accounts \{[^}]*\}\n", ""), 'service "Accounts"'),
    "an enum value that is gone": (("order.proto", r"  EXPIRE_REASON_SESSION_END = 6;\n", ""), "was deleted"),
    "an enum value's name": (("order.proto", r"EXPIRE_REASON_SESSION_END =", "EXPIRE_REASON_DAY_END ="), "changed name"),
    "a message that is gone": (("snapshot.proto", r"message SnapshotPiece \{[\s\S]*?\n\}\n", ""), 'message "SnapshotPiece"'),
    "the package for Go": (("order.proto", r"ordertape/v1;ordertapev1", "elsewhere/v1;v1"), "go_package"),
}
ADDING: dict[str, Change] = {
    "a field": ("order.proto", r"(string fee_asset = 7;)", r"\1\n  // Where it traded.\n  string venue = 8;"),
    "an enum value": ("order.proto", r"(SIDE_SELL = 2;)", r"\1\n  // Sells what it does not have.\n  SIDE_SELL_SHORT = 3;"),
    "an RPC and its messages": (
        "matching_engine.proto",
        r"service Accounts \{\n",
        "message PingRequest {}\nmessage PingResponse {}\nservice Accounts {\n  rpc Ping(PingRequest) returns (PingResponse);\n",
    ),
    "a member of a oneof": ("ledger.proto", r"(MassCancelDone mass_cancel_done = 26;)", r"\1\n    Deposit refund = 27;"),
    "a deprecation": ("order.proto", r"string fee_asset = 7;", "string fee_asset = 7 [deprecated = true];"),
    "a comment": ("order.proto", r"// One side's view of one trade\.", "// One side of one trade."),
}


@pytest.mark.parametrize("change", BREAKING)
def test_a_change_that_breaks_what_was_released_is_refused(change: str, checked: Callable[[Change], tuple[int, str]]) -> None:
    edit, said = BREAKING[change]
    code, text = checked(edit)
    assert code == 1
    assert said in text
    assert "Add a new field, value, message or RPC and leave the old one as it is" in text
    assert "docs/compatibility.md" in text


@pytest.mark.parametrize("change", ADDING)
def test_a_change_that_adds_passes(change: str, checked: Callable[[Change], tuple[int, str]]) -> None:
    assert checked(ADDING[change]) == (0, "")


def test_the_contract_as_it_is_fits_the_last_release() -> None:
    assert _check(ROOT / "protos") == (0, "")


def test_a_release_that_is_kept_already_is_never_written_over() -> None:
    released = {path: path.read_bytes() for path in (ROOT / "protos" / "released").iterdir()}
    code, text = _check("--release")
    assert code == 1
    assert "never changes: raise the version in pyproject.toml first" in text
    assert released == {path: path.read_bytes() for path in (ROOT / "protos" / "released").iterdir()}


@pytest.fixture
def checked(tmp_path: Path) -> Callable[[Change], tuple[int, str]]:
    """Checks a copy of the contract with a change: the exit code and what was said."""

    def check(change: Change) -> tuple[int, str]:
        name, old, new = change
        shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("released"))
        file = tmp_path / "protos" / "ordertape" / "v1" / name
        text, count = re.subn(old, new, file.read_text())
        assert count == 1, f"{old} is {count} times in {name}"
        file.write_text(text)
        return _check(tmp_path / "protos")

    return check


def _check(argument: Path | str) -> tuple[int, str]:
    done = subprocess.run(
        [ROOT / "scripts" / "check-compat", argument], check=False, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr
