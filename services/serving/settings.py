"""What an operator can set about a server, with its units and bounds, and how gRPC is told."""

from pydantic import BaseModel, ConfigDict, Field

# Room for health and reflection beside the service's own calls: they answer also when those are at their limit.
CONTROL_CALLS_MAX = 1000


class ServerSettings(BaseModel):
    """Settings of one gRPC server; a service's config holds one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on: this machine alone unless told.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 for any free one.")
    message_bytes_max: int = Field(4 * 2**20, ge=1024, description="Largest request; larger: RESOURCE_EXHAUSTED.")
    response_bytes_max: int = Field(64 * 2**20, ge=1024, description="Largest response; the ledger's largest batch fits.")
    calls_max: int = Field(1000, ge=1, description="Unary calls that run or wait; more are refused.")
    call_threads_max: int = Field(32, ge=1, description="Threads for unary calls (threaded server only).")
    streams_max: int = Field(1000, ge=1, description="Streams at once, a thread each in the threaded server.")
    sessions_max: int = Field(100, ge=1, description="Streams that go both ways at once, a thread each (threaded server only).")
    keepalive_seconds: float = Field(30, ge=1, description="Silence after which a connection is pinged.")
    keepalive_timeout_seconds: float = Field(10, ge=1, description="Time for the answer to that ping.")
    client_ping_seconds_min: float = Field(10, ge=0, description="Least time between pings of an idle client.")
    grace_seconds: float = Field(10, ge=0, description="Time for running calls to finish when the service stops.")
    channelz: bool = Field(False, description="Serve gRPC's channelz diagnostics; for development.")

    @property
    def calls_at_once_max(self) -> int:
        """All kinds of calls together, health and reflection too."""
        return self.calls_max + self.streams_max + self.sessions_max + CONTROL_CALLS_MAX


def channel_options(settings: ServerSettings) -> list[tuple[str, int]]:
    """The settings as gRPC channel arguments."""
    return [
        ("grpc.so_reuseport", 0),  # a second server on the same port must fail, not share it
        ("grpc.max_receive_message_length", settings.message_bytes_max),
        ("grpc.max_send_message_length", settings.response_bytes_max),
        ("grpc.max_concurrent_streams", settings.calls_at_once_max),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _milliseconds(settings.client_ping_seconds_min)),
        ("grpc.enable_channelz", int(settings.channelz)),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
