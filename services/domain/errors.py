"""Why the core refuses a command.

DomainError
├── Refused                   the command cannot be done as things stand; nothing changes, nothing is journaled
│   ├── UnknownSymbol
│   ├── UnknownAsset
│   ├── OrderNotOpen          no open order of that user has this name: never there, or closed
│   ├── VersionMismatch       the order is not as the caller thinks it is
│   ├── ReplaceRefused        the new terms are not possible, or change nothing
│   ├── InsufficientFunds     (of a withdrawal; an order that is not covered is REJECTED, which is no error)
│   ├── AmountOffStep
│   ├── TotalTooLarge
│   └── BadInstrument         an instrument's rules contradict themselves, each other, or what never changes
└── ImpossibleTransition      a defect or a damaged ledger: must stop the service
"""


class DomainError(Exception):
    """Anything that the core refuses."""


class Refused(DomainError):
    """The command cannot be done as things stand; nothing changed."""


class UnknownSymbol(Refused):
    """No instrument has this symbol."""


class UnknownAsset(Refused):
    """No instrument names this asset."""


class OrderNotOpen(Refused):
    """The user has no open order of this name."""


class VersionMismatch(Refused):
    """The order's version is not the expected one."""


class ReplaceRefused(Refused):
    """The new terms of an order are not possible, or change nothing."""


class InsufficientFunds(Refused):
    """A withdrawal is more than what is available."""


class AmountOffStep(Refused):
    """An amount is finer than the asset's decimals."""


class TotalTooLarge(Refused):
    """A deposit would bring an asset's total to 10^18 or more."""


class BadInstrument(Refused):
    """An instrument's rules contradict themselves, or those of another instrument."""


class ImpossibleTransition(DomainError):
    """The lifecycle table has no such transition."""
