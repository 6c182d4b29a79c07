"""The ledger on disk. This format stays for ever: what is described here is what every later program has to read.

A ledger is a folder of segment files, each named by the first sequence it holds: 20 digits and `.segment`, so that names
sort like sequences. A segment is a header and then records, with nothing between or after them. All numbers are unsigned
and little endian; checksums are CRC-32 as in zlib.

    header, 40 bytes, laid out like this in every version, so that any program can tell a newer file from a damaged one
      0   8  magic "ORDTAPE" and a zero byte
      8   4  format version, 1
     12  16  ledger_id, 16 hexadecimal digits in ASCII
     28   8  first sequence of the file
     36   4  checksum of the 36 bytes before

    record, 32 bytes and a batch
      0   4  magic FA 4F 54 FB (it cannot begin inside UTF-8 text)
      4   4  length of the batch in bytes
      8   4  checksum of all that follows
     12   8  durable sequence that was known when the record was written, below the record's first
     20   8  first sequence of the batch
     28   4  number of commands, at least 1: their sequences follow the first one by one
     32      the batch: a serialized LedgerBatch

The durable sequence in a record proves that all up to it had been synced: so a bad record before it is damage, while a bad
one that no later record vouches for is the torn tail of a commit group of which nobody was told. The record's magic finds
the next record after bytes that cannot be trusted, and lets a reader begin anywhere in a file without an index.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from services.matching_engine.ledger.interface import StoredBatch

FORMAT_VERSION = 1
HEADER_BYTES = 40
RECORD_MAGIC = b"\xfaOT\xfb"
RECORD_HEADER = struct.Struct("<4sIIQQI")
RECORD_CHECKED_FROM = 12

_HEADER_MAGIC = b"ORDTAPE\0"
_HEADER = struct.Struct("<8sI16sQ")
_CHECKSUM = struct.Struct("<I")
_RECORD_START = struct.Struct("<4sII")
_RECORD_REST = struct.Struct("<QQI")


class SegmentHeader(NamedTuple):
    """What a segment file says of itself."""

    version: int
    ledger_id: str
    first_sequence: int


def encode_header(ledger_id: str, first_sequence: int) -> bytes:
    """The header of a new segment file."""
    fields = _HEADER.pack(_HEADER_MAGIC, FORMAT_VERSION, ledger_id.encode("ascii"), first_sequence)
    return fields + _CHECKSUM.pack(crc32(fields))


def decode_header(data: bytes) -> SegmentHeader | None:
    """The header that the bytes begin with, of whatever version; None where there is no whole one."""
    fields, checksum = data[: _HEADER.size], data[_HEADER.size : HEADER_BYTES]
    if not fields.startswith(_HEADER_MAGIC) or checksum != _CHECKSUM.pack(crc32(fields)):
        return None
    _, version, ledger_id, first_sequence = _HEADER.unpack(fields)
    return SegmentHeader(version, ledger_id.decode("ascii", "replace"), first_sequence)


def encode_group(durable_sequence: int, batches: Sequence[StoredBatch]) -> bytes:
    """The records of a commit group that is written where `durable_sequence` is durable. Raises ValueError where the batches
    do not follow it, or one another, without a hole.
    """
    parts: list[bytes] = []
    expected = durable_sequence + 1
    for first, last, data in batches:
        if first != expected or last < first:
            raise ValueError(f"batch {first}..{last} cannot follow sequence {expected - 1}")
        rest = _RECORD_REST.pack(durable_sequence, first, last - first + 1)
        parts += (_RECORD_START.pack(RECORD_MAGIC, len(data), crc32(data, crc32(rest))), rest, data)
        expected = last + 1
    return b"".join(parts)
