"""Orders and refunds as Shopify's REST resources describe them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

MORNING = datetime(2026, 11, 22, 9, tzinfo=UTC)

Payload = dict[str, Any]


def at(second: int) -> str:
    """A moment as Shopify writes it."""
    return (MORNING + timedelta(seconds=second)).isoformat()


def cents(amount: int) -> str:
    """An amount of money as Shopify writes it."""
    return f"{amount // 100}.{amount % 100:02}"


def order(order_id: int = 1001, *, subtotal: str = "25.00", customer: int | None = 7, **fields: Any) -> Payload:  # noqa: ANN401
    """A paid order; `fields` replace or add to its own."""
    payload: Payload = {
        "id": order_id,
        "name": f"#{order_id}",
        "customer": None if customer is None else {"id": customer},
        "currency": "USD",
        "presentment_currency": "USD",
        "subtotal_price": subtotal,
        "financial_status": "paid",
        "created_at": at(0),
        "updated_at": at(0),
        "cancelled_at": None,
        "line_items": [{"id": order_id * 10, "quantity": 1, "price": subtotal}],
        "refunds": [],
    }
    return payload | fields


def refund(refund_id: int = 1, order_id: int = 1001, *, amount: str = "10.00", **fields: Any) -> Payload:  # noqa: ANN401
    """A refund of one line; `fields` replace or add to its own."""
    payload: Payload = {
        "id": refund_id,
        "order_id": order_id,
        "created_at": at(60),
        "refund_line_items": [{"line_item_id": order_id * 10, "quantity": 1, "subtotal": amount}],
        "order_adjustments": [],
        "transactions": [{"kind": "refund", "status": "success", "amount": amount, "currency": "USD"}],
    }
    return payload | fields


def money_set(shop: str, presentment: str, currency: str = "EUR") -> Payload:
    """An amount in US dollars and in the customer's currency."""
    return {
        "shop_money": {"amount": shop, "currency_code": "USD"},
        "presentment_money": {"amount": presentment, "currency_code": currency},
    }
