"""The engine's settings: command line > environment (ORDERTAPE_ENGINE_...) > TOML file > defaults.

data_dir = "ordertape/engine"
listen = "127.0.0.1:50051"

[feeds]
history = "tcp://127.0.0.1:50053"

[[instruments]]
symbol = "BTC-USD"
base_asset = "BTC"
quote_asset = "USD"
base_asset_decimals = 8
quote_asset_decimals = 10
price_decimals = 2
qty_decimals = 8
price_step = "0.01"
qty_step = "0.00000001"
price_min = "0.01"
price_max = "1000000"
qty_min = "0.00000001"
qty_max = "10000"
notional_min = "1"
maker_fee_rate = "0.001"
taker_fee_rate = "0.002"
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from services.domain.instrument import InstrumentRules
from services.wire.fields import DECIMAL, IDENTIFIER

Name = Annotated[str, StringConstraints(pattern=f"^{IDENTIFIER.pattern}$")]
Amount = Annotated[str, StringConstraints(pattern=f"^{DECIMAL.pattern}$")]
LogLevel = Annotated[str, StringConstraints(to_upper=True, pattern=r"(?i)^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$")]
PORT_MAX = 65535


def _with_port(address: str) -> str:
    if int(address.rpartition(":")[2]) > PORT_MAX:
        raise ValueError(f"the port must be 0 (for any free one) to {PORT_MAX}")
    return address


Address = Annotated[
    str,
    StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"),
    AfterValidator(_with_port),
]


class InstrumentConfig(BaseModel):
    """One instrument; protos/ordertape/v1/instrument.proto explains each field. Numbers may be written without quotes only
    where they are whole: decimals are text, since a float is not what was written.
    """

    model_config = ConfigDict(extra="forbid")

    symbol: Name
    base_asset: Name
    quote_asset: Name
    base_asset_decimals: int
    quote_asset_decimals: int
    price_decimals: int
    qty_decimals: int
    price_step: Amount
    qty_step: Amount
    price_min: Amount
    price_max: Amount
    qty_min: Amount
    qty_max: Amount
    notional_min: Amount = "0"
    maker_fee_rate: Amount = "0"
    taker_fee_rate: Amount = "0"
    price_band_rate: Amount | None = None

    def rules(self) -> InstrumentRules:
        """The instrument as the core takes it."""
        return InstrumentRules(**self.model_dump())


class EngineSettings(BaseSettings):
    """Everything that can be set. Binds to loopback unless told otherwise."""

    model_config = SettingsConfigDict(env_prefix="ORDERTAPE_ENGINE_", env_nested_delimiter="__", extra="forbid")

    data_dir: Path = Path("ordertape/engine")
    listen: Address = "127.0.0.1:50051"
    # Where Operator is served: empty for beside the rest.
    operator_listen: Address | None = None
    # One ZMQ PUSH per consumer: name -> address to bind.
    feeds: dict[Name, str] = Field(default_factory=lambda: {"history": "tcp://127.0.0.1:50053"})
    instruments: list[InstrumentConfig] = []
    trades_per_order_max: int = Field(5000, ge=1, le=5000)
    # 0 for no limit.
    open_orders_per_user_max: int = Field(0, ge=0)
    # When DAY orders expire, after midnight UTC.
    session_end_seconds: int = Field(0, ge=0, lt=86_400)
    ledger_segment_bytes_max: int = Field(64 << 20, ge=1 << 16)
    # A snapshot is made whenever the ledger has grown by so many commands; 0 for never. A start reads so many at most, and those
    # that came while the last snapshot was made.
    snapshot_every_commands: int = Field(200_000, ge=0)
    calls_max: int = Field(1000, ge=1)
    call_threads_max: int = Field(32, ge=1)
    # ReplayLedger streams at once, a thread each.
    replays_max: int = Field(32, ge=1)
    # OrderSession streams at once, two threads each.
    sessions_max: int = Field(100, ge=1)
    drain_grace_seconds: float = Field(10.0, ge=0)
    accept_clock: bool = False
    log_level: LogLevel = "INFO"
    ready_file: Path | None = None
    channelz: bool = False

    @field_validator("instruments")
    @classmethod
    def _named_once(cls, instruments: list[InstrumentConfig]) -> list[InstrumentConfig]:
        symbols = [instrument.symbol for instrument in instruments]
        for symbol in symbols:
            if symbols.count(symbol) > 1:
                raise ValueError(f"{symbol} must be named once")
        return instruments

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


def load(config_file: Path | None, **arguments: Any) -> EngineSettings:
    """The settings; ``arguments`` are those of the command line that were given. Raises pydantic.ValidationError naming the
    setting, the rule and the value, FileNotFoundError for a config file that is not there.
    """
    if config_file is not None and not config_file.is_file():
        raise FileNotFoundError(f"config file {config_file} does not exist")

    class FromFile(EngineSettings):
        model_config = SettingsConfigDict(toml_file=config_file)

    return FromFile(**arguments)
