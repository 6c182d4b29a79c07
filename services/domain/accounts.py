"""Accounts: what each user has of each asset, free and set aside, and what came in, went out and was kept as fees.

For every asset, at every moment: sum of available and held + fees = deposits - withdrawals.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple


class Balance(NamedTuple):
    """Units of one asset that a user owns: ``available`` for orders and withdrawals, ``held`` for open orders."""

    available: int
    held: int


NOTHING = Balance(0, 0)


class Accounts:
    """The balances of all users, set by events alone."""

    def __init__(self) -> None:
        self._balances: dict[str, dict[str, Balance]] = {}
        self.deposited: dict[str, int] = defaultdict(int)
        self.withdrawn: dict[str, int] = defaultdict(int)
        self.fees: dict[str, int] = defaultdict(int)

    def balance(self, user_id: str, asset: str) -> Balance:
        """What the user has of the asset; nothing where there never was any."""
        assets = self._balances.get(user_id)
        return assets.get(asset, NOTHING) if assets is not None else NOTHING

    def balances(self, user_id: str) -> dict[str, Balance]:
        """All that the user has or had, by asset."""
        return dict(sorted(self._balances.get(user_id, {}).items()))

    def users(self) -> Iterator[str]:
        """Everybody who has or had something."""
        return iter(self._balances)

    def set(self, user_id: str, asset: str, available: int, held: int) -> None:
        """Put a balance to what an event says that it is now."""
        assets = self._balances.get(user_id)
        if assets is None:
            assets = self._balances[user_id] = {}
        assets[asset] = Balance(available, held)

    def total(self, asset: str) -> int:
        """What is in the exchange of an asset: deposits - withdrawals."""
        return self.deposited.get(asset, 0) - self.withdrawn.get(asset, 0)

    def missing(self, asset: str) -> int:
        """deposits - withdrawals - fees - all balances: 0, or money was made or lost."""
        owned = sum(sum(assets.get(asset, NOTHING)) for assets in self._balances.values())
        return self.total(asset) - self.fees.get(asset, 0) - owned

    def state(self) -> dict[str, object]:
        """All of it as plain values, sorted: equal exactly where two accounts are equal."""
        return {
            "balances": {user: dict(sorted(assets.items())) for user, assets in sorted(self._balances.items())},
            "deposited": _sums(self.deposited),
            "withdrawn": _sums(self.withdrawn),
            "fees": _sums(self.fees),
        }


def _sums(totals: dict[str, int]) -> dict[str, int]:
    return {asset: units for asset, units in sorted(totals.items()) if units}
