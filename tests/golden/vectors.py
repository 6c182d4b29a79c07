"""The golden vectors: for every message of the contract the bytes and the JSON of each of its cases, kept for good. A file of
``messages/`` has all cases of one message, a line each; ``messages.sums`` has a digest of every vector, so that one that was
changed or lost is noticed. Bytes that anybody ever wrote have to be readable for good: vectors are only ever added.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from tests.golden.cases import ALL_FIELDS, cases_of, with_all_fields
from tests.golden.schema import message_types

FOLDER = Path(__file__).parent / "messages"
SUMS = Path(__file__).parent / "messages.sums"

CHANGED = """\
{names}
A golden vector is what readers and disks somewhere have: its bytes and its JSON never change, so that whoever wrote it can still
be read. Put the vector back (`git checkout tests/golden`). Where the contract was changed, change it by adding: a new field,
message or RPC has vectors of its own, and `scripts/golden` makes them. Only where no release has ever had the message: delete its
file in tests/golden/messages and its lines in tests/golden/messages.sums, and run `scripts/golden`."""


class Vector(NamedTuple):
    """One message as bytes and as JSON."""

    message: str
    case: str
    wire: bytes
    document: object

    @property
    def stem(self) -> str:
        """Its name, also of its files where it has some."""
        return f"{self.message}--{self.case}"

    @property
    def text(self) -> str:
        """Its JSON."""
        return json.dumps(self.document, ensure_ascii=False)

    @property
    def digest(self) -> str:
        """Of the bytes and the JSON."""
        return hashlib.sha256(self.wire + b"\n" + self.text.encode()).hexdigest()[:32]


def vector_of(name: str, case: str, message: Message) -> Vector:
    """What a message is in bytes and in JSON."""
    return Vector(name, case, message.SerializeToString(), json_format.MessageToDict(message))


def stored(folder: Path = FOLDER) -> list[Vector]:
    """All vectors, by message, in the order in which they were added."""
    found = []
    for path in sorted(folder.glob("*.json")):
        cases = json.loads(path.read_text())
        found += [Vector(path.stem, case, bytes.fromhex(kept["bin"]), kept["json"]) for case, kept in cases.items()]
    return found


def store(vectors: list[Vector], folder: Path = FOLDER, sums: Path = SUMS) -> None:
    """Write all vectors and their digests."""
    folder.mkdir(parents=True, exist_ok=True)
    by_message: dict[str, list[Vector]] = {}
    for vector in vectors:
        by_message.setdefault(vector.message, []).append(vector)
    for message, cases in by_message.items():
        lines = [f'"{case.case}": {{"bin": "{case.wire.hex()}", "json": {case.text}}}' for case in cases]
        (folder / f"{message}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    sums.write_text("".join(f"{vector.digest}  {vector.stem}\n" for vector in vectors))


def unpack(folder: Path) -> int:
    """Fill a folder with ``<full.message.Name>--<case>.bin`` and ``.json`` of every vector, for other programs: how many."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = stored()
    for vector in vectors:
        (folder / f"{vector.stem}.bin").write_bytes(vector.wire)
        (folder / f"{vector.stem}.json").write_text(vector.text)
    return len(vectors)


def missing(vectors: list[Vector]) -> list[Vector]:
    """The vectors that today's contract asks for and that are not there."""
    there: dict[str, list[Vector]] = {}
    for vector in vectors:
        there.setdefault(vector.message, []).append(vector)
    added = []
    for name, kind in message_types().items():
        old = there.get(name, [])
        wanted = cases_of(kind.DESCRIPTOR)
        new = [vector_of(name, case, message) for case, message in wanted.items() if case not in {vector.case for vector in old}]
        added += [*new, *_for_new_fields(kind.DESCRIPTOR, [*old, *new])]
    return added


def _for_new_fields(kind: Descriptor, vectors: list[Vector]) -> Iterator[Vector]:
    """A field that came after the message's vectors were made is in a vector of its own, since those stay as they are."""
    covered = set()
    for vector in vectors:
        if vector.case.startswith(ALL_FIELDS):
            message = message_types()[kind.full_name].FromString(vector.wire)
            covered |= {field.name for field, _ in message.ListFields()}
    for field in kind.fields:
        if field.name not in covered:
            message = with_all_fields(kind, field.name)
            covered |= {other.name for other, _ in message.ListFields()}
            yield vector_of(kind.full_name, f"{ALL_FIELDS}_with_{field.name}", message)


def changed(vectors: list[Vector], sums: Path = SUMS) -> str:
    """What to say where a vector is not what it was, or is lost; empty where all are there."""
    if not sums.exists():
        return ""
    now = {vector.stem: vector.digest for vector in vectors}
    kept = dict(reversed(line.split("  ", 1)) for line in sums.read_text().splitlines())
    wrong = [f"{stem} was {'changed' if stem in now else 'lost'}" for stem, digest in kept.items() if now.get(stem) != digest]
    wrong += [f"{stem} is there without a digest" for stem in now if stem not in kept]
    return CHANGED.format(names="\n".join(wrong)) if wrong else ""


def misread(vector: Vector) -> str:
    """What today's contract and library read or write otherwise than the vector has it; empty where nothing is."""
    kind = message_types().get(vector.message)
    if kind is None:
        return "the contract has no such message any more"
    try:
        message, again = kind.FromString(vector.wire), json_format.ParseDict(vector.document, kind())
    except (json_format.ParseError, ValueError) as error:
        return f"it cannot be read any more: {error}"
    if message.SerializeToString() != vector.wire:
        return f"its bytes are written otherwise: {message.SerializeToString().hex()}"
    document = json_format.MessageToDict(message)
    if document != vector.document:
        return f"its JSON is written otherwise: {json.dumps(document, ensure_ascii=False)}"
    message.DiscardUnknownFields()
    return "" if again == message else "its JSON is read as another message than its bytes"


def misread_all(vectors: list[Vector]) -> str:
    """What to say where the contract no longer reads a vector as it did; empty where it reads all."""
    wrong = [f"{vector.stem}: {text}" for vector in vectors if (text := misread(vector))]
    return CHANGED.format(names="\n".join(wrong)) if wrong else ""
