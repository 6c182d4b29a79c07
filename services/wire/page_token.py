"""Page tokens: where a list goes on, bound to the filter that it began with, so that a token from another question is
refused rather than answered wrongly.
"""

import base64
import struct
import zlib

from google.protobuf.message import Message

_UNBOUND = ("page_token", "page_size", "at_least")


def encode_page_token(request: Message, cursor: tuple[int, ...]) -> str:
    """A token that makes ``request`` go on after ``cursor`` (numbers of the caller's meaning, 64 bits each)."""
    body = struct.pack(f"<I{len(cursor)}q", _filter_hash(request), *cursor)
    return base64.urlsafe_b64encode(body).decode("ascii").rstrip("=")


def decode_page_token(request: Message, token: str) -> tuple[int, ...] | None:
    """The cursor in the token, None for the first page. Raises ValueError for a token of another list or filter."""
    if not token:
        return None
    try:
        body = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        bound, *cursor = struct.unpack(f"<I{(len(body) - 4) // 8}q", body)
    except (ValueError, struct.error):
        raise ValueError(f"must be next_page_token of an earlier page, is {token[:100]!r}") from None
    if bound != _filter_hash(request):
        raise ValueError("belongs to a request with other filters: begin again without page_token")
    return tuple(cursor)


def _filter_hash(request: Message) -> int:
    bare = type(request)()
    bare.CopyFrom(request)
    for field in _UNBOUND:
        bare.ClearField(field)
    return zlib.crc32(type(request).DESCRIPTOR.full_name.encode() + bare.SerializeToString(deterministic=True))
