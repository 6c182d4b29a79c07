"""Where a server listens, and what its settings refuse."""

import socket

import grpc
import pytest
from pydantic import ValidationError

from ordertape.v1.ledger_pb2 import GetLedgerStatusRequest
from services.serving.listening import AddressError, address_of
from services.serving.settings import ServerSettings, channel_options
from tests.serving.running_servers import Running, feed_client, running


def test_a_server_listens_on_loopback_unless_told_otherwise(server: Running) -> None:
    host, port = server.address.rsplit(":", 1)
    assert host == "127.0.0.1"
    with socket.create_connection((host, int(port)), timeout=5):
        pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", int(port)), timeout=5)


def test_a_busy_port_is_refused_by_name(kind: str, server: Running) -> None:
    port = int(server.address.rsplit(":", 1)[1])
    expected = f"cannot listen on 127.0.0.1:{port}: Address already in use"
    with pytest.raises(AddressError, match=expected), running(kind, ServerSettings(port=port)):
        pass


def test_an_address_of_another_machine_is_refused_by_name(kind: str) -> None:
    expected = r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"
    with pytest.raises(AddressError, match=expected), running(kind, ServerSettings(host="192.0.2.1")):
        pass


def test_the_port_is_free_again_after_the_drain(kind: str) -> None:
    with running(kind) as first:
        port = int(first.address.rsplit(":", 1)[1])
    with running(kind, ServerSettings(port=port)) as second, feed_client(second.address) as client:
        client.GetLedgerStatus(GetLedgerStatusRequest())


def test_an_ipv6_address_is_written_with_brackets() -> None:
    assert address_of("::1", 50051) == "[::1]:50051"
    assert address_of("127.0.0.1", 50051) == "127.0.0.1:50051"


def test_a_server_can_listen_on_ipv6(kind: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running(kind, ServerSettings(host="::1")) as server, feed_client(server.address) as client:
        client.GetLedgerStatus(GetLedgerStatusRequest())


@pytest.mark.parametrize(
    ("setting", "value"), [("port", 65536), ("calls_max", 0), ("message_bytes_max", 0), ("grace_seconds", -1), ("hots", 1)]
)
def test_a_setting_out_of_its_range_is_named(setting: str, value: int) -> None:
    with pytest.raises(ValidationError, match=setting):
        ServerSettings(**{setting: value})


def test_times_reach_grpc_in_milliseconds() -> None:
    options = dict(channel_options(ServerSettings(keepalive_seconds=1.5, client_ping_seconds_min=0.25)))
    assert options["grpc.keepalive_time_ms"] == 1500
    assert options["grpc.http2.min_recv_ping_interval_without_data_ms"] == 250


def test_channelz_is_served_only_where_it_is_wanted(kind: str) -> None:
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    def servers(address: str) -> int:
        with grpc.insecure_channel(address) as channel:
            return len(channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest()).server)

    with running(kind) as server, pytest.raises(grpc.RpcError) as failure:
        servers(server.address)
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with running(kind, ServerSettings(channelz=True)) as server:
        assert servers(server.address) >= 1
