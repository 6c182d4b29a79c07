"""Which users a history process stores and answers for. Users fall into 256 shards for good, so that a range of shards can be
given to another process: the shard of a user never changes, whoever has it.
"""

import re
import zlib
from typing import Final, NamedTuple, Self

SHARDS: Final = 256
_TEXT: Final = re.compile(r"([0-9]{1,3})-([0-9]{1,3})")


class UserShare(NamedTuple):
    """The shards ``first`` to ``last``, both included, of 0 to 255."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "FIRST-LAST", for example "0-127". Raises ValueError naming the rule and the value."""
        match = _TEXT.fullmatch(text)
        if match is None or not int(match[1]) <= int(match[2]) < SHARDS:
            raise ValueError(f"a share of the users is FIRST-LAST with 0 <= FIRST <= LAST <= {SHARDS - 1}, is {text!r}")
        return cls(int(match[1]), int(match[2]))

    def owns(self, user_id: str) -> bool:
        """Whether the user is one of the share's."""
        return self.first <= shard_of(user_id) <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


ALL_USERS: Final = UserShare(0, SHARDS - 1)


def shard_of(user_id: str) -> int:
    """The user's shard: CRC-32 (ISO 3309) of the id's UTF-8 bytes, modulo 256. Never to be changed: checkpoints say shards."""
    return zlib.crc32(user_id.encode()) % SHARDS
