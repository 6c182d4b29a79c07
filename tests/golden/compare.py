"""Compares what another language's library made of the golden vectors with what they are.

A language's program reads a folder that ``vectors.unpack`` filled: of each vector ``<full.message.Name>--<case>.bin`` and
``.json``. It writes, under the same names, the ``.bin`` and the ``.json`` that it makes of the message that it read from the
``.bin``, and the ``.fromjson.bin`` that it makes of the one that it read from the ``.json``. What a library is known to be unable
to do is in ``ABILITIES``; everything else has to be equal to the byte.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from tests.golden.schema import message_types


class Unknown(Enum):
    """What a language's library does with fields that its schema does not have, when it writes a message again."""

    KEPT = "kept, in the order of the wire"
    SORTED = "kept, sorted by number"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a language's library can do: with unknown fields, and whether it has protobuf's JSON."""

    unknown: Unknown = Unknown.KEPT
    has_json: bool = True


ABILITIES = {
    "python": Abilities(),
    "go": Abilities(),
    "java": Abilities(Unknown.SORTED),
    "typescript": Abilities(),
    "rust": Abilities(Unknown.DROPPED, has_json=False),  # prost
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that a language wrote and that says something else than the vector, or is not there."""

    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


def compare(language: str, in_dir: Path, out_dir: Path) -> list[Difference]:
    """All that is wrong with what ``language`` (a key of ABILITIES) wrote to ``out_dir`` of ``in_dir``; empty for nothing."""
    abilities = ABILITIES[language]
    found = []
    for path in sorted(in_dir.glob("*.bin")):
        found += _differences(path.stem, path.read_bytes(), (in_dir / f"{path.stem}.json").read_text(), out_dir, abilities)
    if not any(in_dir.glob("*.bin")):
        found.append(Difference(str(in_dir), "has no vectors: fill it with `scripts/golden --unpack`"))
    return found


def _differences(stem: str, wire: bytes, text: str, out_dir: Path, abilities: Abilities) -> list[Difference]:
    kind = message_types()[stem.partition("--")[0]]
    whole = kind.FromString(wire)
    known = kind.FromString(wire)
    known.DiscardUnknownFields()
    found: list[Difference] = []
    written = _read(out_dir, f"{stem}.bin", found)
    if written is not None:
        expected = known if abilities.unknown is Unknown.DROPPED else whole
        found += _binary(f"{stem}.bin", written, expected, abilities.unknown)
    if abilities.has_json:
        found += _json_differences(stem, text, known, out_dir)
    return found


def _json_differences(stem: str, text: str, known: Message, out_dir: Path) -> list[Difference]:
    found: list[Difference] = []
    from_json = _read(out_dir, f"{stem}.fromjson.bin", found)
    if from_json is not None:
        found += _binary(f"{stem}.fromjson.bin", from_json, json_format.Parse(text, type(known)()), Unknown.KEPT)
    document = _read(out_dir, f"{stem}.json", found)
    if document is not None:
        found += _json(f"{stem}.json", document, text, known)
    return found


def _read(folder: Path, name: str, found: list[Difference]) -> bytes | None:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        found.append(Difference(name, "was not written"))
        return None


def _binary(name: str, written: bytes, expected: Message, unknown: Unknown) -> Iterator[Difference]:
    if written == expected.SerializeToString():
        return
    try:
        message = type(expected).FromString(written)
    except DecodeError as error:
        yield Difference(name, f"cannot be read: {error}")
        return
    if described(message) != described(expected):
        yield Difference(name, f"has other fields: {_first_difference(message, expected)}")
    elif unknown is not Unknown.SORTED:
        yield Difference(name, f"has the same fields in other bytes: {written.hex()} for {expected.SerializeToString().hex()}")


def _json(name: str, written: bytes, text: str, expected: Message) -> Iterator[Difference]:
    try:
        message = json_format.Parse(written.decode(), type(expected)())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        yield Difference(name, f"cannot be read: {error}")
        return
    if described(message) != described(expected):
        yield Difference(name, f"says other values: {_first_difference(message, expected)}")
    elif json.loads(written) != json.loads(text):
        yield Difference(name, f"says the same in other words: {written.decode()} for {text}")


def described(message: Message) -> dict[str, object]:
    """All that a message says, the fields that nobody knows by number: two messages that say the same are equal here."""
    said: dict[str, object] = {}
    for field, value in message.ListFields():
        if field.message_type is None:
            said[field.name] = list(value) if field.is_repeated else value
        else:
            said[field.name] = [described(item) for item in value] if field.is_repeated else described(value)
    unknown = [(field.field_number, field.wire_type, field.data) for field in UnknownFieldSet(message)]
    if unknown:
        # Stable: how often a number comes, and in which order, is a part of what is said.
        said["(unknown)"] = sorted(unknown, key=lambda field: field[0])
    return said


def _first_difference(message: Message, expected: Message) -> str:
    said, wanted = described(message), described(expected)
    name = next(name for name in (*wanted, *said) if said.get(name) != wanted.get(name))
    return f"{name} is {said.get(name)!r} and not {wanted.get(name)!r}"


def main(arguments: list[str]) -> int:
    """LANGUAGE IN_DIR OUT_DIR: print the differences; 1 where there are any."""
    language, in_dir, out_dir = arguments
    found = compare(language, Path(in_dir), Path(out_dir))
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
