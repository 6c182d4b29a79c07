"""Makes a message for each case that a library can get wrong: every field, none, the ends of every range, and what a reader that
is older than the writer meets. The same contract gives the same messages, on every machine and for good.
"""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.golden.schema import choices, is_choice

ALL_FIELDS, NONE, HIGH, LOW, UNKNOWN_FIELDS, UNKNOWN_ENUM = (
    "all_fields",
    "none",
    "extremes_high",
    "extremes_low",
    "unknown_fields",
    "unknown_enum",
)

# Text that people read may be of any language; everything else has its grammar.
_WORDS = {"reason_text", "message", "description", "halt_reason"}
_DECIMALS = {
    "amount", "available", "available_after", "avg_fill_price", "cumulative_fee", "cumulative_quote", "deposited", "display_qty",
    "fee", "fees", "filled_qty", "held", "held_after", "last_trade_price", "leaves_qty", "leaves_quote_qty", "maker_fee",
    "maker_fee_rate", "notional_min", "price", "price_band_rate", "price_max", "price_min", "price_step", "qty", "qty_max",
    "qty_min", "qty_step", "quote", "quote_qty", "stop_price", "taker_fee", "taker_fee_rate", "visible_qty", "withdrawn",
}  # fmt: skip
_LONGEST_DECIMAL = f"{'9' * 18}.{'9' * 18}"
_LONGEST_NAME = ("AZaz09._:-" * 7)[:64]
# One to four bytes a letter, letters of two code points, both directions, and what JSON and HTML have to escape.
_ALL_WORDS = 'plain, é, €, 😀, é, שלום, 漢字, "quoted" \\ / \t\n\r\x00\x7f <&> \u2028\ufeff'
_NO_SUCH_VALUE = 1_000_000_007
# The ends of google.protobuf.Timestamp and Duration: seconds, nanos.
_TIMES = {
    "google.protobuf.Timestamp": {HIGH: (253_402_300_799, 999_999_999), LOW: (-62_135_596_800, 0)},
    "google.protobuf.Duration": {HIGH: (315_576_000_000, 999_999_999), LOW: (-315_576_000_000, -999_999_999)},
}
_INTEGERS = {
    FieldDescriptor.TYPE_INT32: {HIGH: 2**31 - 1, LOW: -(2**31)},
    FieldDescriptor.TYPE_INT64: {HIGH: 2**63 - 1, LOW: -(2**63)},
    FieldDescriptor.TYPE_UINT32: {HIGH: 2**32 - 1, LOW: 0},
    FieldDescriptor.TYPE_UINT64: {HIGH: 2**64 - 1, LOW: 0},
}
# Fields that no version of the contract has, by falling number, which is not how every library writes them again.
_FROM_THE_FUTURE = b"".join(bytes.fromhex(field) for field in (
    "809601 ffffffffffffffffff01",  # 2400: -1
    "e18f01 0102030405060708",  # 2300: eight bytes
    "c28901 05 68656c6c6f",  # 2200: "hello"
    "a58301 01020304",  # 2100: four bytes
    "c28901 00",  # 2200 once more: ""
))  # fmt: skip


def cases_of(kind: Descriptor) -> dict[str, Message]:
    """Every case of a message that today's contract asks for, by name."""
    made: dict[str, Message] = {}
    members = [member.name for choice in choices(kind) for member in choice]
    for member in members or [""]:
        made[f"{ALL_FIELDS}_{member}" if member else ALL_FIELDS] = with_all_fields(kind, member)
    made[NONE] = _new(kind)
    if kind.fields:
        made[HIGH] = _filled(kind, HIGH, "", items=1)
        made[LOW] = _filled(kind, LOW, _last_members(kind), items=1)
    future = _filled(kind, ALL_FIELDS, "", items=1)
    for message in _with_inner(future):
        message.MergeFromString(_FROM_THE_FUTURE)
    made[UNKNOWN_FIELDS] = future
    unknown_enum = _filled(kind, ALL_FIELDS, "", items=2)
    if _set_unknown_enums(unknown_enum):
        made[UNKNOWN_ENUM] = unknown_enum
    return made


def with_all_fields(kind: Descriptor, member: str = "") -> Message:
    """Every field set, of a oneof ``member`` or else its first one; two items in what is repeated, one further inside."""
    return _filled(kind, ALL_FIELDS, member, items=2)


def _filled(kind: Descriptor, case: str, member: str, items: int) -> Message:
    message = _new(kind)
    for field in kind.fields:
        if is_choice(field):
            names = [other.name for other in field.containing_oneof.fields]
            if field.name != (member if member in names else names[0]):
                continue
        if field.is_repeated:
            getattr(message, field.name).extend(_value(field, case, number) for number in range(items))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_value(field, case, 0))
            getattr(message, field.name).SetInParent()
        else:
            setattr(message, field.name, _value(field, case, 0))
    return message


def _value(field: FieldDescriptor, case: str, item: int) -> object:
    """A value that no other field of the message has, so that two that were mixed up are noticed; or an end of its range."""
    kind = field.message_type
    if kind is not None:
        return _time(kind, case, field.number) if kind.full_name in _TIMES else _filled(kind, case, "", items=1)
    if field.type in _INTEGERS:
        return _INTEGERS[field.type].get(case, 1000 * (item + 1) + field.number)
    if field.type == FieldDescriptor.TYPE_ENUM:
        values = [value.number for value in field.enum_type.values]
        return {HIGH: values[-1], LOW: 0}.get(case, values[1 + (field.number + item) % (len(values) - 1)])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return case != LOW
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {HIGH: b"\xff" * 256, LOW: b""}.get(case, bytes(range(field.number, field.number + 32)))
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(field, item).get(case, f"{field.name}-{item + 1}")
    raise NotImplementedError(f"{field.full_name} is of a type that the contract did not have: say its extremes here")


def _text(field: FieldDescriptor, item: int) -> dict[str, str]:
    if field.name in _DECIMALS:
        return {HIGH: _LONGEST_DECIMAL, LOW: "", ALL_FIELDS: f"{field.number}.{item + 1}25"}
    return {HIGH: _ALL_WORDS if field.name in _WORDS else _LONGEST_NAME, LOW: ""}


def _time(kind: Descriptor, case: str, number: int) -> Message:
    message = _new(kind)
    message.seconds, message.nanos = _TIMES[kind.full_name].get(case, (1_777_689_381 + number, 332_001_000))  # type: ignore[attr-defined]
    return message


def _new(kind: Descriptor) -> Message:
    return GetMessageClass(kind)()


def _last_members(kind: Descriptor) -> str:
    """With the low extremes goes the last member, with the high ones the first."""
    return next((members[-1].name for members in choices(kind)), "")


def _with_inner(message: Message) -> Iterator[Message]:
    """The message and all messages in it."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _with_inner(inner)
    yield message


def _set_unknown_enums(whole: Message) -> int:
    """Give every enum in the message a number that no version of the contract knows; how many there were."""
    count = 0
    for message in _with_inner(whole):
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_ENUM:
                count += 1
                if field.is_repeated:
                    value[:] = [_NO_SUCH_VALUE + number for number in range(len(value))]
                else:
                    setattr(message, field.name, _NO_SUCH_VALUE)
    return count
