"""Every message that was ever written is read as it was meant, and written again as it was, in bytes and in JSON."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from ordertape.v1 import order_pb2
from tests.golden import vectors
from tests.golden.cases import with_all_fields
from tests.golden.compare import compare
from tests.golden.schema import choices, message_types
from tests.golden.vectors import Vector

STORED = vectors.stored()


def test_no_golden_vector_was_changed_or_lost() -> None:
    text = vectors.changed(STORED)
    assert not text, text


def test_every_message_and_every_field_has_its_golden_vectors() -> None:
    missing = [vector.stem for vector in vectors.missing(STORED)]
    assert not missing, f"run scripts/golden, which adds {missing}"


@pytest.mark.parametrize("kind", message_types())
def test_a_message_comes_back_as_the_same_bytes_and_the_same_json(kind: str) -> None:
    text = vectors.misread_all([vector for vector in STORED if vector.message == kind])
    assert not text, text


def test_a_member_of_each_oneof_is_in_a_vector_of_its_own() -> None:
    for name, kind in message_types().items():
        for member in (member.name for members in choices(kind.DESCRIPTOR) for member in members):
            wire = next(v.wire for v in STORED if (v.message, v.case) == (name, f"all_fields_{member}"))
            assert kind.FromString(wire).HasField(member)


def test_fields_that_nobody_knows_are_kept_at_every_depth() -> None:
    from google.protobuf.unknown_fields import UnknownFieldSet

    update = order_pb2.OrderUpdate.FromString(_vector("OrderUpdate", "unknown_fields").wire)
    for message in (update, update.fill, update.timestamp):
        assert [field.field_number for field in UnknownFieldSet(message)] == [2400, 2300, 2200, 2100, 2200]
    again = order_pb2.OrderUpdate.FromString(update.SerializeToString())
    assert len(UnknownFieldSet(again.fill)) == 5


def test_enum_numbers_that_nobody_knows_are_kept_as_numbers() -> None:
    vector = _vector("OrderUpdate", "unknown_enum")
    update = order_pb2.OrderUpdate.FromString(vector.wire)
    assert update.status == update.fill.liquidity == 1_000_000_007
    assert '"status": 1000000007' in vector.text


def test_the_extremes_reach_the_ends_of_what_a_field_can_hold() -> None:
    high = order_pb2.OrderUpdate.FromString(_vector("OrderUpdate", "extremes_high").wire)
    low = order_pb2.OrderUpdate.FromString(_vector("OrderUpdate", "extremes_low").wire)
    assert (high.order_id, low.order_id) == (2**63 - 1, -(2**63))
    assert (len(high.client_order_id), len(high.price)) == (64, 37)
    assert (low.HasField("client_order_id"), low.client_order_id) == (True, "")
    assert (low.HasField("previous_status"), low.previous_status) == (True, 0)
    assert high.timestamp.ToJsonString() == "9999-12-31T23:59:59.999999999Z"
    assert low.timestamp.ToJsonString() == "0001-01-01T00:00:00Z"
    assert not high.reason_text.isascii()


def test_a_changed_vector_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    vectors.store(STORED, tmp_path / "messages", tmp_path / "sums")
    path = tmp_path / "messages" / "ordertape.v1.Fill.json"
    path.write_text(path.read_text().replace('"tradeId": "1001"', '"tradeId": "1002"', 1))
    text = vectors.changed(vectors.stored(tmp_path / "messages"), tmp_path / "sums")
    assert "ordertape.v1.Fill--all_fields was changed" in text
    assert "Where the contract was changed, change it by adding" in text
    path.unlink()
    text = vectors.changed(vectors.stored(tmp_path / "messages"), tmp_path / "sums")
    assert "ordertape.v1.Fill--all_fields was lost" in text


def test_a_message_without_vectors_is_noticed_and_gets_them() -> None:
    rest = [vector for vector in STORED if vector.message != "ordertape.v1.Fill"]
    assert vectors.missing(rest) == [vector for vector in STORED if vector.message == "ordertape.v1.Fill"]


def test_a_field_that_is_new_gets_a_vector_of_its_own_and_the_old_ones_stay() -> None:
    file = FileDescriptorProto()
    order_pb2.DESCRIPTOR.CopyToProto(file)
    fill = next(message for message in file.message_type if message.name == "Fill")
    fill.field.add(name="venue", number=8, type=fill.field[1].type, label=fill.field[1].label, json_name="venue")
    pool = DescriptorPool()
    timestamp = FileDescriptorProto()
    order_pb2.OrderUpdate.DESCRIPTOR.fields_by_name["timestamp"].message_type.file.CopyToProto(timestamp)
    pool.Add(timestamp)
    pool.Add(file)
    grown = pool.FindMessageTypeByName("ordertape.v1.Fill")
    assert with_all_fields(grown).venue == "venue-1"  # type: ignore[attr-defined]
    added = list(vectors._for_new_fields(grown, [v for v in STORED if v.message == "ordertape.v1.Fill"]))
    assert [vector.case for vector in added] == ["all_fields_with_venue"]
    assert added[0].document == {**_vector("Fill", "all_fields").document, "venue": "venue-1"}


def test_what_python_writes_of_the_vectors_is_what_they_are(unpacked: Path, written: Path) -> None:
    assert compare("python", unpacked, written) == []


def test_what_a_language_writes_otherwise_is_found(unpacked: Path, written: Path) -> None:
    stem = "ordertape.v1.Fill--all_fields"
    (written / f"{stem}.bin").write_bytes(order_pb2.Fill(trade_id=7).SerializeToString())
    (written / f"{stem}.fromjson.bin").unlink()
    document = json.loads((written / f"{stem}.json").read_text())
    (written / f"{stem}.json").write_text(json.dumps({**document, "tradeId": 1001}))
    assert [str(difference).split(" is ")[0].split(" {")[0] for difference in compare("go", unpacked, written)] == [
        f"{stem}.bin: has other fields: trade_id",
        f"{stem}.fromjson.bin: was not written",
        f"{stem}.json: says the same in other words:",
    ]


def test_a_language_may_drop_what_it_does_not_know_and_json_only_where_that_is_its_way(unpacked: Path, written: Path) -> None:
    for path in written.glob("*--unknown_fields.bin"):
        message = message_types()[path.stem.partition("--")[0]].FromString(path.read_bytes())
        message.DiscardUnknownFields()
        path.write_bytes(message.SerializeToString())
    assert len(compare("java", unpacked, written)) == len(message_types())
    for path in (*written.glob("*.json"), *written.glob("*.fromjson.bin")):
        path.unlink()
    assert compare("rust", unpacked, written) == []
    assert len(compare("java", unpacked, written)) == len(message_types()) + 2 * len(STORED)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The vectors as files."""
    folder = tmp_path_factory.mktemp("golden") / "in"
    vectors.unpack(folder)
    return folder


@pytest.fixture
def written(unpacked: Path, tmp_path: Path) -> Path:
    """What Python's library makes of them, as another language's program writes it."""
    for path in unpacked.glob("*.bin"):
        kind = message_types()[path.stem.partition("--")[0]]
        message = kind.FromString(path.read_bytes())
        (tmp_path / path.name).write_bytes(message.SerializeToString())
        (tmp_path / f"{path.stem}.json").write_text(json_format.MessageToJson(message))
        from_json = json_format.Parse((unpacked / f"{path.stem}.json").read_text(), kind())
        (tmp_path / f"{path.stem}.fromjson.bin").write_bytes(from_json.SerializeToString())
    return tmp_path


def _vector(message: str, case: str) -> Vector:
    return next(vector for vector in STORED if (vector.message, vector.case) == (f"ordertape.v1.{message}", case))
