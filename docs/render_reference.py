"""Renders docs/reference/ from the contract: every service, RPC, message, field, enum and value in its own comment's words, so
that there is nothing to keep in step. One page for each file of protos/, and an index.
"""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
INDEX = "README.md"
WELL_KNOWN = "https://protobuf.dev/reference/protobuf/google.protobuf/#"

# Where things are in a FileDescriptorProto, as source locations name it.
_MESSAGES, _ENUMS, _SERVICES, _PACKAGE, _INSIDE = 4, 5, 6, 2, 2

_WORD = re.compile(r"(`[^`]*`)|\b([A-Z][a-z]+(?:[A-Z][a-z]*)+)\b")
_ERRORS = re.compile(r"\bErrors: (?P<errors>.*?\.)(?= |$)")
_CODE = re.compile(r"^(?P<code>[A-Z_]+): (?P<when>.*)$")
_KINDS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
_Path = tuple[int, ...]


def pages() -> dict[str, str]:
    """Every page by its name in docs/reference/."""
    image = subprocess.run(["buf", "build", "protos", "-o", "-"], cwd=ROOT, check=True, capture_output=True).stdout  # noqa: S607
    contract = Contract([file for file in FileDescriptorSet.FromString(image).file if file.package.startswith("ordertape.")])
    return {INDEX: contract.index(), **{_page_of(file): contract.page(file) for file in contract.files}}


class Contract:
    """All files of the contract, where everything in them is, and what is in what."""

    def __init__(self, files: Sequence[FileDescriptorProto]) -> None:
        self.files = files
        self._comments = {file.name: _comments(file) for file in files}
        self._links: dict[str, str] = {}
        self._used: defaultdict[str, list[str]] = defaultdict(list)
        for file in files:
            page = _page_of(file)
            self._links |= {name: f"{page}#{_slug(name)}" for name in _kinds_in(file)}
            self._links |= {service.name: f"{page}#{_slug(service.name)}" for service in file.service}
            for message in file.message_type:
                for field in message.field:
                    self._used[field.type_name].append(message.name)
            for service in file.service:
                for rpc in service.method:
                    self._links[rpc.name] = self._links.get(rpc.name, f"{page}#{_slug(service.name + rpc.name)}")
                    for kind in (rpc.input_type, rpc.output_type):
                        self._used[kind].append(f"{service.name}.{rpc.name}")
                        self._links[f"{service.name}.{rpc.name}"] = f"{page}#{_slug(service.name + rpc.name)}"

    def index(self) -> str:
        """The index: every RPC in a line, then what is in each file."""
        lines = [
            "# The contract",
            "Rendered from the comments of [protos/ordertape/v1](../../protos/ordertape/v1/) by `scripts/render-docs`: what is "
            "wrong here is to be mended there. [grpcurl.md](../grpcurl.md) has a line to try for every call, "
            "[lifecycle.md](../lifecycle.md) what an order can go through, [compatibility.md](../compatibility.md) what stays.",
            "A call that fails says why: a gRPC code, one of [the reasons](error_reason.md) in `google.rpc.ErrorInfo`, and with "
            "INVALID_ARGUMENT every rule that the request breaks in `google.rpc.BadRequest`.",
            "## Calls",
        ]
        rows = []
        for file in self.files:
            for at, service in enumerate(file.service):
                for number, rpc in enumerate(service.method):
                    name = f"{service.name}.{rpc.name}"
                    words = self._comment(file, (_SERVICES, at, _INSIDE, number)).split(". ")[0].removesuffix(".")
                    rows.append([f"[{name}]({self._links[name]})", _cell(words)])
        lines.append(_table(["call", "what it does"], rows))
        lines.append("## Files")
        for file in self.files:
            page = _page_of(file)
            lines.append(f"**[{_title(file)}]({page})**: {_cell(self._comment(file, (_PACKAGE,)))}")
            lines.append(", ".join(f"[{name}]({self._links[name]})" for name in _kinds_in(file)))
        return "\n\n".join(lines) + "\n"

    def page(self, file: FileDescriptorProto) -> str:
        """All that is in one file."""
        blocks = [
            f"# {_title(file)}",
            self._comment(file, (_PACKAGE,)),
            f"[All of the contract]({INDEX}) · [source](../../protos/{file.name})",
        ]
        for number, service in enumerate(file.service):
            blocks += self._service(file, number, service)
        if file.message_type:
            blocks.append("## Messages")
        for number, message in enumerate(file.message_type):
            blocks += self._message(file, number, message)
        if file.enum_type:
            blocks.append("## Enums")
        for number, enum in enumerate(file.enum_type):
            blocks += self._enum(file, number, enum)
        return "\n\n".join(block for block in blocks if block) + "\n"

    def _service(self, file: FileDescriptorProto, at: int, service: ServiceDescriptorProto) -> Iterator[str]:
        yield f"## {service.name}"
        yield self._words(self._comment(file, (_SERVICES, at)), service.name)
        for number, rpc in enumerate(service.method):
            comment = self._comment(file, (_SERVICES, at, _INSIDE, number))
            errors = _ERRORS.search(comment)
            yield f"### {service.name}.{rpc.name}"
            yield self._words(_ERRORS.sub("", comment).replace("  ", " ").strip(), rpc.name)
            yield _table(["request", "answer"], [self._shape(rpc)])
            if errors is not None:
                told = errors["errors"].removesuffix(".").split("; ")
                yield "Errors:"
                yield "\n".join(f"- {self._words(error, rpc.name)}" for error in told)

    def _shape(self, rpc: MethodDescriptorProto) -> list[str]:
        sides = ((rpc.client_streaming, rpc.input_type), (rpc.server_streaming, rpc.output_type))
        return [f"{'a stream of ' if streams else ''}{self._type_link(kind)}" for streams, kind in sides]

    def _message(self, file: FileDescriptorProto, at: int, message: DescriptorProto) -> Iterator[str]:
        yield f"### {message.name}"
        yield self._words(self._comment(file, (_MESSAGES, at)), message.name)
        if message.field:
            rows = []
            for number, field in enumerate(message.field):
                words = self._words(self._comment(file, (_MESSAGES, at, _INSIDE, number)), message.name)
                rows.append([str(field.number), f"`{field.name}`", self._type(field), _presence(field, message), _cell(words)])
            yield _table(["#", "field", "type", "presence", "meaning"], rows)
        else:
            yield "It has no fields."
        yield self._where_used(file, message.name)

    def _enum(self, file: FileDescriptorProto, at: int, enum: EnumDescriptorProto) -> Iterator[str]:
        yield f"### {enum.name}"
        yield self._words(self._comment(file, (_ENUMS, at)), enum.name)
        rows = []
        for number, value in enumerate(enum.value):
            words = self._words(self._comment(file, (_ENUMS, at, _INSIDE, number)), enum.name)
            rows.append([str(value.number), f"`{value.name}`", _cell(words)])
        if enum.name == "ErrorReason":
            split = [(row, _CODE.match(row[2])) for row in rows]
            coded = [[*row[:2], code["code"] if code else "", code["when"] if code else row[2]] for row, code in split]
            yield _table(["#", "value", "gRPC code", "when"], coded)
        else:
            yield _table(["#", "value", "meaning"], rows)
        yield self._where_used(file, enum.name)

    def _where_used(self, file: FileDescriptorProto, name: str) -> str:
        users = sorted(set(self._used[f".{file.package}.{name}"]))
        return f"Used in {', '.join(f'[{user}]({self._links[user]})' for user in users)}." if users else ""

    def _type(self, field: FieldDescriptorProto) -> str:
        return self._type_link(field.type_name) if field.type_name else f"`{_KINDS[field.type]}`"

    def _type_link(self, full_name: str) -> str:
        name = full_name.rpartition(".")[2]
        if full_name.startswith(".google.protobuf."):
            return f"[google.protobuf.{name}]({WELL_KNOWN}{name.lower()})"
        return f"[{name}]({self._links[name]})"

    def _words(self, text: str, own_name: str) -> str:
        """A comment as Markdown: what it names is linked, but for what it is the comment of and its like."""

        def linked(word: re.Match[str]) -> str:
            name = word[2]
            return f"[{name}]({self._links[name]})" if name in self._links and name != own_name else word[0]

        return _WORD.sub(linked, _escaped(text))

    def _comment(self, file: FileDescriptorProto, path: _Path) -> str:
        return self._comments[file.name].get(path, "")


def _kinds_in(file: FileDescriptorProto) -> list[str]:
    return [message.name for message in file.message_type] + [enum.name for enum in file.enum_type]


def _comments(file: FileDescriptorProto) -> dict[_Path, str]:
    """Each element's comment in one line, by the element's path."""
    found = {}
    for location in file.source_code_info.location:
        if location.leading_comments:
            found[tuple(location.path)] = " ".join(location.leading_comments.split())
    return found


def _presence(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    """How absent is told from zero."""
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return "list"
    if field.HasField("oneof_index") and not field.proto3_optional:
        return f"one of `{message.oneof_decl[field.oneof_index].name}`"
    return "optional" if field.proto3_optional or field.type == FieldDescriptorProto.TYPE_MESSAGE else ""


def _title(file: FileDescriptorProto) -> str:
    return file.name.rpartition("/")[2]


def _page_of(file: FileDescriptorProto) -> str:
    return _title(file).removesuffix(".proto") + ".md"


def _slug(heading: str) -> str:
    """The anchor that a heading of this text gets, dots apart."""
    return heading.lower()


def _escaped(text: str) -> str:
    """Text that Markdown would take for markup; what is in backticks is not touched."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", r"\*") for part in parts[::2]]
    return "`".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def stale(folder: Path = FOLDER) -> list[str]:
    """The pages of a folder that are not what the contract says, or not of it any more."""
    fresh, there = pages(), _there(folder)
    return sorted(name for name in {*fresh, *there} if fresh.get(name) != there.get(name))


def write(folder: Path = FOLDER) -> None:
    """Write the pages that are not right in a folder yet, and take away those that are not of it any more."""
    folder.mkdir(exist_ok=True)
    fresh = pages()
    for name in stale(folder):
        if name in fresh:
            (folder / name).write_text(fresh[name])
        else:
            (folder / name).unlink()


def _there(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.md")}
