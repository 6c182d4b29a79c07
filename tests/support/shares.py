"""Several history processes with a share of the users each: their settings, and users of every share."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from services.order_history.user_share import SHARDS, UserShare, shard_of
from tests.support.exchange_process import free_ports


def equal_shares(count: int) -> list[UserShare]:
    """All users in so many shares."""
    size = SHARDS // count
    return [UserShare(first, first + size - 1) for first in range(0, SHARDS, size)]


def addresses(count: int) -> list[str]:
    """Where so many processes can listen."""
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def settings_of(shares: Sequence[UserShare], places: Sequence[str], index: int) -> dict[str, Any]:
    """What makes a history the one at ``index``."""
    peers = {str(share): place for number, (share, place) in enumerate(zip(shares, places, strict=True)) if number != index}
    return {"users": str(shares[index]), "peers": peers, "listen": places[index]}


def environment_of(settings: dict[str, Any]) -> dict[str, str]:
    """The settings as a HistoryProcess takes them; its address goes by its arguments."""
    return {"USERS": settings["users"], "PEERS": json.dumps(settings["peers"])}


def users_of(shares: Iterable[UserShare], each: int = 1) -> list[str]:
    """Users, ``each`` of every share, one share after the other."""
    names = [f"user{number}" for number in range(2_000)]
    return [name for share in shares for name in [n for n in names if share.owns(n)][:each]]


def user_of_shard(shard: int) -> str:
    """A user of that very shard."""
    return next(name for number in range(100_000) if shard_of(name := f"user{number}") == shard)
