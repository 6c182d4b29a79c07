"""The history's settings: command line > environment (ORDERTAPE_HISTORY_...) > TOML file > defaults.

data_dir = "ordertape/history"
listen = "127.0.0.1:50052"
engine_address = "127.0.0.1:50051"
engine_feed = "tcp://127.0.0.1:50053"
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from services.order_history.stores.cql_settings import parse_cql_address
from services.order_history.user_share import ALL_USERS, SHARDS, UserShare

SQLITE = "sqlite"


def _checked_store(address: str) -> str:
    if address != SQLITE:
        parse_cql_address(address)
    return address


def _checked_share(text: str) -> str:
    UserShare.parse(text)
    return text


Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
FeedAddress = Annotated[str, StringConstraints(pattern=r"^(tcp://.+:[0-9]{1,5}|ipc://.+)$")]
Share = Annotated[str, AfterValidator(_checked_share)]
StoreAddress = Annotated[str, AfterValidator(_checked_store)]
LogLevel = Annotated[str, StringConstraints(to_upper=True, pattern=r"(?i)^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$")]


class HistorySettings(BaseSettings):
    """Everything that can be set. Listens on loopback unless told otherwise."""

    model_config = SettingsConfigDict(env_prefix="ORDERTAPE_HISTORY_", extra="forbid", frozen=True)

    data_dir: Path = Field(Path("ordertape/history"), description="Folder of history.db; one process at a time.")
    store: StoreAddress = Field(
        "sqlite", description="sqlite, or scylla://[USER:PASSWORD@]HOST[:PORT],.../KEYSPACE[?OPTION=VALUE&...]."
    )
    users: Share = Field(str(ALL_USERS), description="The users of this process: their shards, FIRST-LAST of 0-255.")
    peers: dict[Share, Address] = Field({}, description="Who has the other users: FIRST-LAST -> HOST:PORT of that process.")
    listen: Address = Field("127.0.0.1:50052", description="Where to serve, HOST:PORT; port 0 for any free one.")
    engine_address: Address = Field("127.0.0.1:50051", description="The engine's gRPC address, for LedgerFeed.")
    engine_feed: FeedAddress = Field("tcp://127.0.0.1:50053", description="The engine's feed for this consumer (ZMQ).")
    engine_timeout_seconds: float = Field(5.0, gt=0, description="How long the engine may take to say its status.")
    replay_timeout_seconds: float = Field(60.0, gt=0, description="How long one replay may take; then the next goes on there.")
    feed_frames_max: int = Field(256, ge=1, description="Frames of the feed that wait in memory; what is beyond is replayed.")
    gap_patience_seconds: float = Field(0.2, gt=0, description="How long the feed may be ahead and bring nothing.")
    silence_seconds: float = Field(3.0, gt=0, description="How long the feed may be silent before the engine is asked.")
    chunk_commands_max: int = Field(2_000, ge=1, description="Ledger commands in one transaction, about.")
    store_readers: int = Field(4, ge=1, le=64, description="Reads of the store at once, a thread each.")
    lag_seconds_max: float = Field(10.0, gt=0, description="Being behind the engine for longer is NOT_SERVING.")
    wait_seconds_max: float = Field(30.0, gt=0, description="How long a call without a deadline waits for a position.")
    calls_max: int = Field(1_000, ge=1, description="Unary calls at once; more are refused.")
    watches_max: int = Field(2_000, ge=1, description="Watches at once; more are refused.")
    watch_queue_updates_max: int = Field(10_000, ge=1, description="Updates that wait for one watcher; then it is cut off.")
    watch_stall_seconds: float = Field(30.0, gt=0, description="How long a watcher may not read before it is cut off.")
    watch_heartbeat_seconds: float = Field(5.0, gt=0, description="Silence after which a watcher gets a heartbeat.")
    drain_grace_seconds: float = Field(10.0, ge=0, description="Time for running calls to finish at SIGTERM.")
    print_commands: bool = Field(False, description="Print each received ledger command as a JSON line on stdout.")
    ready_file: Path | None = Field(None, description="File to write the bound address to, as JSON, once it listens.")
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    channelz: bool = Field(False, description="Serve gRPC's channelz diagnostics; for development.")

    @model_validator(mode="after")
    def _users_belong_to_one_each(self) -> Self:
        shares = [self.share, *map(UserShare.parse, self.peers)]
        owners = [sum(share.first <= shard <= share.last for share in shares) for shard in range(SHARDS)]
        wrong = [shard for shard in range(SHARDS) if owners[shard] != 1]
        if wrong:
            shard = wrong[0]
            raise ValueError(
                f"users and peers: each of the shards 0-{SHARDS - 1} must have one owner, shard {shard} has {owners[shard]}: "
                f"users is {self.users!r}, peers have {list(self.peers)}"
            )
        if self.store == SQLITE and self.share != ALL_USERS:
            raise ValueError(f"users must be {ALL_USERS} on SQLite, which is one machine's, is {self.users!r}")
        return self

    @property
    def share(self) -> UserShare:
        """``users``, parsed."""
        return UserShare.parse(self.users)

    @property
    def listen_host(self) -> str:
        """The host of ``listen``, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def listen_port(self) -> int:
        """The port of ``listen``."""
        return int(self.listen.rpartition(":")[2])

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line first, then the environment, then the TOML file that ``load`` names."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(config_file: Path | None = None, **arguments: Any) -> HistorySettings:
    """The settings; ``arguments`` are those of the command line that were given. Raises pydantic.ValidationError naming the
    setting, the rule and the value, FileNotFoundError for a config file that is not there.
    """
    if config_file is not None and not config_file.is_file():
        raise FileNotFoundError(f"config file {config_file} does not exist")

    class FromFile(HistorySettings):
        model_config = SettingsConfigDict(toml_file=config_file)

    return FromFile(**arguments)
