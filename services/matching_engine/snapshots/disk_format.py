"""A snapshot on disk: a header and then pieces, with nothing between or after them. All numbers are unsigned and little endian.

    header, 16 bytes, laid out like this in every version, so that any program can tell a newer file from a damaged one
      0   8  magic "ORDSNAP" and a zero byte
      8   4  format version, 1; it rises with whatever an older program must not overlook
     12   4  CRC-32 of the 12 bytes before

    piece, 8 bytes and a message
      0   4  length of the message in bytes
      4   4  CRC-32 of the length and the message, carried on from the checksum before it
      8      a serialized SnapshotPiece

Since each checksum carries on the one before, pieces cannot change places, nor can one be missing in between; that none is
missing at the end is what the counts in the first piece are for. Pieces are small, so neither writing nor reading needs the
whole state a second time in memory.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final
from zlib import crc32

FORMAT_VERSION: Final = 1

_MAGIC: Final = b"ORDSNAP\0"
_START: Final = struct.Struct("<8sI")
_NUMBER: Final = struct.Struct("<I")


class BadFormat(Exception):
    """The bytes are not what was written, or were written by a newer program."""


def encode_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a file with these pieces: the header, then one item for each piece."""
    start = _START.pack(_MAGIC, FORMAT_VERSION)
    checksum = crc32(start)
    yield start + _NUMBER.pack(checksum)
    for piece in pieces:
        length = _NUMBER.pack(len(piece))
        checksum = crc32(piece, crc32(length, checksum))
        yield length + _NUMBER.pack(checksum) + piece


def decode_pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The pieces of a file of ``size`` bytes, each as soon as it is known to be as written. Raises BadFormat."""
    start = file.read(_START.size)
    checksum = crc32(start)
    if len(start) < _START.size or not start.startswith(_MAGIC) or _number(file) != checksum:
        raise BadFormat("its header is not what was written")
    _, version = _START.unpack(start)
    if version != FORMAT_VERSION:
        raise BadFormat(f"it has snapshot format {version}, this program reads format {FORMAT_VERSION}")
    while file.tell() < size:
        at = file.tell()
        length, claimed = file.read(_NUMBER.size), _number(file)
        count = _NUMBER.unpack(length)[0] if claimed is not None else size
        # Only so much is read as there can be: a damaged length is not asked of the memory.
        piece = file.read(count) if count <= size - file.tell() else b""
        checksum = crc32(piece, crc32(length, checksum))
        if checksum != claimed or len(piece) != count:
            raise BadFormat(f"its piece at byte {at} is not what was written")
        yield piece


def _number(file: BinaryIO) -> int | None:
    data = file.read(_NUMBER.size)
    return int(_NUMBER.unpack(data)[0]) if len(data) == _NUMBER.size else None
