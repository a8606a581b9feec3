"""Money, taxes and addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sellflow.simulator.graphql.fields import Fields
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Address, Market
from sellflow.simulator.money import Exchange, Money, rounded


@dataclass(frozen=True, slots=True)
class Bag:
    """An amount in both currencies of an order."""

    money: Money
    exchange: Exchange


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount in one currency."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Tax:
    """The tax within or on something."""

    market: Market
    price: Bag


@dataclass(frozen=True, slots=True)
class Postal:
    """An address; only those of customers have a number."""

    address: Address
    number: int


def decimal_text(amount: Decimal, currency: str) -> str:
    """Write a `Decimal` as Shopify does: no more decimals than it has, but one at least."""
    whole, _, decimals = f"{rounded(amount, currency):f}".partition(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}"


def taxes(market: Market, bag: Bag) -> list[Tax]:
    """Return the tax lines of something; none where no tax is due."""
    return [Tax(market, bag)] if bag.money.shop or bag.money.presentment else []


MONEY_BAG: Fields[Bag] = {
    "shopMoney": lambda bag, _: Amount(bag.money.shop, bag.exchange.shop),
    "presentmentMoney": lambda bag, _: Amount(bag.money.presentment, bag.exchange.presentment),
}

MONEY: Fields[Amount] = {
    "amount": lambda money, _: decimal_text(money.amount, money.currency),
    "currencyCode": lambda money, _: money.currency,
}

TAX_LINE: Fields[Tax] = {
    "title": lambda tax, _: tax.market.tax_title,
    "rate": lambda tax, _: float(tax.market.tax_rate),
    "ratePercentage": lambda tax, _: float(tax.market.tax_rate * 100),
    "priceSet": lambda tax, _: tax.price,
    "channelLiable": lambda _tax, _: False,
}

ADDRESS: Fields[Postal] = {
    "id": lambda postal, _: gid("MailingAddress", postal.number) + "?model_name=CustomerAddress",
    "firstName": lambda postal, _: postal.address.first_name,
    "lastName": lambda postal, _: postal.address.last_name,
    "name": lambda postal, _: f"{postal.address.first_name} {postal.address.last_name}",
    "company": lambda _postal, _: None,
    "address1": lambda postal, _: postal.address.street,
    "address2": lambda _postal, _: None,
    "city": lambda postal, _: postal.address.city,
    "zip": lambda postal, _: postal.address.postcode,
    "province": lambda postal, _: postal.address.province,
    "provinceCode": lambda postal, _: postal.address.province_code,
    "country": lambda postal, _: postal.address.country,
    "countryCodeV2": lambda postal, _: postal.address.country_code,
    "phone": lambda postal, _: postal.address.phone,
}

FIELDS: Mapping[str, Fields[Any]] = {
    "MoneyBag": MONEY_BAG,
    "MoneyV2": MONEY,
    "TaxLine": TAX_LINE,
    "MailingAddress": ADDRESS,
}
