"""Which users a history process has, and what its settings may say of it and of the others."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from services.order_history.__main__ import main
from services.order_history.config import load
from services.order_history.user_share import ALL_USERS, SHARDS, UserShare, shard_of

CQL = "scylla://127.0.0.1/some"


@pytest.mark.parametrize(("user_id", "shard"), [("alice", 71), ("bob", 64), ("user:1", 130), ("", 0)])
def test_the_shard_of_a_user_is_the_same_for_good(user_id: str, shard: int) -> None:
    assert shard_of(user_id) == shard


def test_shares_that_have_all_shards_have_each_user_once() -> None:
    shares = [UserShare(0, 0), UserShare(1, 99), UserShare(100, 255)]
    for number in range(1_000):
        assert sum(share.owns(f"user{number}") for share in shares) == 1
    assert {shard_of(f"user{number}") for number in range(5_000)} == set(range(SHARDS))


@pytest.mark.parametrize("share", [ALL_USERS, UserShare(0, 0), UserShare(7, 200)])
def test_a_share_is_said_as_it_is_read(share: UserShare) -> None:
    assert UserShare.parse(str(share)) == share


def test_without_a_word_of_it_a_process_has_all_users() -> None:
    assert load().share == ALL_USERS


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"users": "0-127"}, ("users and peers", "one owner", "shard 128 has 0", "'0-127'")),
        ({"users": "0-127", "peers": {"127-255": "a:1"}}, ("users and peers", "one owner", "shard 127 has 2")),
        ({"users": "0-127", "peers": {"129-255": "a:1"}}, ("users and peers", "shard 128 has 0")),
        ({"users": "0-255", "peers": {"128-255": "a:1"}}, ("users and peers", "shard 128 has 2")),
        ({"users": "128-127"}, ("FIRST <= LAST <= 255", "'128-127'")),
        ({"users": "0-256"}, ("FIRST <= LAST <= 255", "'0-256'")),
        ({"users": "all"}, ("setting users", "FIRST-LAST", "'all'")),
        ({"users": "0-127", "peers": {"the rest": "a:1"}}, ("setting peers", "FIRST-LAST", "'the rest'")),
        ({"users": "0-127", "peers": {"128-255": "nowhere"}}, ("peers", "128-255", "'nowhere'")),
        ({"users": "0-127", "peers": {"128-255": "a:1"}, "store": "sqlite"}, ("users", "SQLite", "'0-127'")),
    ],
)
def test_settings_that_cannot_be_are_refused_by_field_rule_and_value(
    settings: dict[str, Any],
    named: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"store": CQL, **settings}
    with pytest.raises(ValidationError):
        load(**settings)
    for name, value in settings.items():
        monkeypatch.setenv(f"ORDERTAPE_HISTORY_{name.upper()}", value if isinstance(value, str) else json.dumps(value))
    assert main([]) == 78
    said = capsys.readouterr().err
    assert all(part in said for part in named), said
