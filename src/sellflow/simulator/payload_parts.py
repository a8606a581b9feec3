"""What Shopify's REST resources share: money sets, timestamps, addresses, transactions and tax lines."""

from __future__ import annotations

from datetime import UTC, datetime

from sellflow.simulator.ids import gid
from sellflow.simulator.models import Address, Market, Order, Transaction
from sellflow.simulator.money import Exchange, Money, text

Json = dict[str, object]


def moment(at: datetime, market: Market) -> str:
    """Write a time in the shop's own offset and at seconds, such as `2026-11-22T08:17:32-05:00`."""
    return at.astimezone(market.timezone).replace(microsecond=0).isoformat()


def utc_moment(at: datetime) -> str:
    """Write a time in UTC with its fraction, as the header `Triggered-At` has it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def money_set(money: Money, exchange: Exchange) -> Json:
    """Return a REST money set: shop_money and presentment_money, amounts as strings."""
    return {
        "shop_money": {"amount": text(money.shop, exchange.shop), "currency_code": exchange.shop},
        "presentment_money": {
            "amount": text(money.presentment, exchange.presentment),
            "currency_code": exchange.presentment,
        },
    }


def priced(name: str, money: Money, exchange: Exchange) -> Json:
    """Return a field in shop currency and its `…_set` beside it."""
    return {name: text(money.shop, exchange.shop), f"{name}_set": money_set(money, exchange)}


def tax_lines(order: Order, tax: Money) -> list[Json]:
    """Return the tax lines of a line, of the shipping or of the order; none where no tax is due."""
    if not tax.shop and not tax.presentment:
        return []
    line: Json = {
        "channel_liable": False,
        "rate": float(order.market.tax_rate),
        "title": order.market.tax_title,
    }
    return [line | priced("price", tax, order.exchange)]


def postal(address: Address) -> Json:
    """Return a billing or shipping address."""
    return {
        "first_name": address.first_name,
        "last_name": address.last_name,
        "name": f"{address.first_name} {address.last_name}",
        "company": None,
        "address1": address.street,
        "address2": None,
        "city": address.city,
        "zip": address.postcode,
        "province": address.province,
        "province_code": address.province_code,
        "country": address.country,
        "country_code": address.country_code,
        "phone": address.phone,
        "latitude": None,
        "longitude": None,
    }


def transaction(order: Order, done: Transaction, parent: Transaction | None = None) -> Json:
    """Return a Transaction; its amount is in the currency that the buyer paid in."""
    exchange = order.exchange
    return {
        "id": done.id,
        "admin_graphql_api_id": gid("OrderTransaction", done.id),
        "amount": text(done.amount.presentment, exchange.presentment),
        "currency": exchange.presentment,
        "authorization": None,
        "created_at": moment(done.at, order.market),
        "processed_at": moment(done.at, order.market),
        "device_id": None,
        "error_code": None,
        "gateway": "bogus",
        "kind": done.kind,
        "location_id": None,
        "message": "Bogus Gateway: Forced success",
        "order_id": order.id,
        "parent_id": parent.id if parent else None,
        "payment_id": f"{order.name}.{len(order.transactions)}",
        "payments_refund_attributes": None,
        "receipt": {"paid_amount": text(done.amount.presentment, exchange.presentment)},
        "source_name": "web",
        "status": "success",
        "test": True,
        "total_unsettled_set": money_set(done.amount - done.amount, exchange),
        "user_id": None,
    }
