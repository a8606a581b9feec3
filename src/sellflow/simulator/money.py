"""Exact money in two currencies: the shop's own and the one that the buyer sees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from sellflow.simulator.errors import RefusedError

WITHOUT_DECIMALS = frozenset({"JPY", "KRW", "CLP", "VND"})
WITH_THREE_DECIMALS = frozenset({"KWD", "BHD"})

# Units of each currency for one US dollar: invented once, so that a seed gives the same amounts for ever.
PER_DOLLAR = {
    "AUD": Decimal("1.52"),
    "BHD": Decimal("0.376"),
    "CAD": Decimal("1.36"),
    "CHF": Decimal("0.88"),
    "CLP": Decimal(945),
    "DKK": Decimal("6.87"),
    "EUR": Decimal("0.92"),
    "GBP": Decimal("0.79"),
    "JPY": Decimal("149.5"),
    "KRW": Decimal(1345),
    "KWD": Decimal("0.307"),
    "NOK": Decimal("10.6"),
    "NZD": Decimal("1.64"),
    "SEK": Decimal("10.4"),
    "USD": Decimal(1),
    "VND": Decimal(24800),
}


@dataclass(frozen=True, slots=True)
class Money:
    """One amount as Shopify's `…_set` fields give it: in the shop's currency and in the buyer's."""

    shop: Decimal
    presentment: Decimal

    def __add__(self, other: Money) -> Money:
        return Money(self.shop + other.shop, self.presentment + other.presentment)

    def __sub__(self, other: Money) -> Money:
        return Money(self.shop - other.shop, self.presentment - other.presentment)

    def __neg__(self) -> Money:
        return Money(-self.shop, -self.presentment)

    def times(self, quantity: int) -> Money:
        """Return this amount `quantity` times over."""
        return Money(self.shop * quantity, self.presentment * quantity)

    def at_most(self, other: Money) -> Money:
        """Return the smaller amount in each currency."""
        return Money(min(self.shop, other.shop), min(self.presentment, other.presentment))


ZERO = Money(Decimal(0), Decimal(0))


def total(amounts: Iterable[Money]) -> Money:
    """Return the sum of `amounts`."""
    return sum(amounts, ZERO)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The two currencies of an order; `rate` is how much of `presentment` one unit of `shop` buys."""

    shop: str
    presentment: str
    rate: Decimal

    def convert(self, amount: Decimal) -> Money:
        """Return an `amount` of shop currency in both, each rounded to its own decimals."""
        return self.rounded(Money(amount, amount * self.rate))

    def rounded(self, money: Money) -> Money:
        """Round each side to the decimals of its currency, halves away from zero."""
        return Money(rounded(money.shop, self.shop), rounded(money.presentment, self.presentment))

    def scaled(self, money: Money, factor: Decimal) -> Money:
        """Return `money` times `factor`, rounded."""
        return self.rounded(Money(money.shop * factor, money.presentment * factor))

    def share(self, money: Money, part: int, whole: int) -> Money:
        """Return `part` of `whole` equal shares, rounded; all of them together are `money` exactly."""
        return self.rounded(Money(money.shop * part / whole, money.presentment * part / whole))


def exchange(shop: str, presentment: str | None = None) -> Exchange:
    """Return the exchange between two currencies, or of one with itself.

    Raises
    ------
    RefusedError
        If the simulator knows no rate for one of them.
    """
    presentment = presentment or shop
    for currency in (shop, presentment):
        if currency not in PER_DOLLAR:
            raise RefusedError(f"currency {currency!r} is unknown: choose one of {', '.join(PER_DOLLAR)}")
    rate = (PER_DOLLAR[presentment] / PER_DOLLAR[shop]).quantize(Decimal("0.000001"))
    return Exchange(shop, presentment, rate)


def decimals(currency: str) -> int:
    """Return how many decimals amounts of `currency` have (ISO 4217)."""
    if currency in WITHOUT_DECIMALS:
        return 0
    return 3 if currency in WITH_THREE_DECIMALS else 2


def rounded(amount: Decimal, currency: str) -> Decimal:
    """Round `amount` to the decimals of `currency`, halves away from zero."""
    return amount.quantize(Decimal(1).scaleb(-decimals(currency)), ROUND_HALF_UP)


def text(amount: Decimal, currency: str) -> str:
    """Write `amount` the way Shopify does: a plain string with the decimals of `currency`."""
    return f"{rounded(amount, currency) + 0:f}"
