"""The exchange: decides what a command brings about, and changes by applying just that.

``decide`` reads the state and returns events; ``apply`` is the only thing that changes the state, at run time and in recovery
alike. Time comes in as an argument.
"""

from collections.abc import Callable
from typing import Final

from services.domain.commands import (
    ApplyConfig,
    Cancel,
    CancelOrders,
    Command,
    Deposit,
    ExpireDue,
    ForceCancel,
    Place,
    Replace,
    SessionLost,
    SetTradingStatus,
    SetUserStatus,
    StartEngine,
    TriggerStop,
    Withdraw,
)
from services.domain.draft import Draft
from services.domain.ending import cancel, cancel_orders, expire_due, force_cancel, session_lost, set_user_status
from services.domain.errors import AmountOffStep, BadInstrument, InsufficientFunds, TotalTooLarge, UnknownAsset, UnknownSymbol
from services.domain.events import EngineStarted, Event, InstrumentChanged, TradingStatusChanged
from services.domain.instrument import Instrument, make_instrument
from services.domain.money import WHOLE_LIMIT, to_text, to_units
from services.domain.placing import place
from services.domain.replacing import replace
from services.domain.state import ExchangeState
from services.domain.stops import trigger

# Version of the rules by which commands turn into events. It rises whenever an old ledger's commands would come out otherwise.
RULES_VERSION: Final = 1


def decide(state: ExchangeState, command: Command, time: int) -> list[Event]:
    """What ``command`` brings about at ``time`` (microseconds since 1970, later than the state's last). Changes nothing.

    Raises Refused where the command cannot be done as things stand, BadInstrument for rules that make no sense.
    """
    draft = Draft(state, time)
    _DECIDE[type(command)](state, command, draft)
    return draft.events


def find_instrument(state: ExchangeState, symbol: str) -> Instrument:
    """The instrument of a symbol. Raises UnknownSymbol."""
    instrument = state.instruments.get(symbol)
    if instrument is None:
        raise UnknownSymbol(f"symbol {symbol} is not listed")
    return instrument


def _deposit(state: ExchangeState, command: Deposit, draft: Draft) -> None:
    amount, decimals = _money(state, command.asset, command.amount)
    if state.accounts.total(command.asset) + amount >= WHOLE_LIMIT * 10**decimals:
        raise TotalTooLarge(f"amount {command.amount} brings the total of {command.asset} to 10^18 or more")
    draft.deposit(command.user_id, command.asset, amount)


def _withdraw(state: ExchangeState, command: Withdraw, draft: Draft) -> None:
    amount, decimals = _money(state, command.asset, command.amount)
    available = state.accounts.balance(command.user_id, command.asset).available
    if available < amount:
        raise InsufficientFunds(
            f"amount {command.amount} is more than the available {to_text(available, decimals)} {command.asset}"
        )
    draft.withdraw(command.user_id, command.asset, amount)


def _money(state: ExchangeState, asset: str, text: str) -> tuple[int, int]:
    decimals = state.asset_decimals.get(asset)
    if decimals is None:
        raise UnknownAsset(f"no instrument names the asset {asset}")
    amount = to_units(text, decimals)
    if amount is None:
        raise AmountOffStep(f"amount {text} has more than the {decimals} decimals of {asset}")
    return amount, decimals


def _set_trading_status(state: ExchangeState, command: SetTradingStatus, draft: Draft) -> None:
    find_instrument(state, command.symbol)
    draft.events.append(TradingStatusChanged(command.symbol, command.status, command.reason_text))


def _apply_config(state: ExchangeState, command: ApplyConfig, draft: Draft) -> None:
    instrument = make_instrument(command.rules)
    known = state.instruments.get(instrument.symbol)
    if known is not None:
        for name in ("base_asset", "quote_asset", "price_decimals", "qty_decimals"):
            before, now = getattr(known.rules, name), getattr(instrument.rules, name)
            if before != now:
                raise BadInstrument(f"{name} of {instrument.symbol} must stay {before}, is {now}")
    for asset, now in (
        (instrument.base_asset, instrument.base_decimals),
        (instrument.quote_asset, instrument.quote_decimals),
    ):
        before = state.asset_decimals.get(asset, now)
        if before != now:
            raise BadInstrument(
                f"decimals of {asset} must stay {before} as another instrument has them, are {now} in {instrument.symbol}"
            )
    draft.events.append(InstrumentChanged(instrument))


def _start_engine(state: ExchangeState, command: StartEngine, draft: Draft) -> None:
    assert command.epoch == state.epoch + 1, f"epoch {command.epoch} does not follow {state.epoch}"
    draft.events.append(
        EngineStarted(command.ledger_id, command.epoch, command.rules_version, command.program_version, command.rules)
    )


_DECIDE: Final[dict[type, Callable[..., None]]] = {
    Place: place,
    Replace: replace,
    Cancel: cancel,
    CancelOrders: cancel_orders,
    ForceCancel: force_cancel,
    SetTradingStatus: _set_trading_status,
    SetUserStatus: set_user_status,
    ExpireDue: expire_due,
    TriggerStop: trigger,
    SessionLost: session_lost,
    Deposit: _deposit,
    Withdraw: _withdraw,
    ApplyConfig: _apply_config,
    StartEngine: _start_engine,
}
