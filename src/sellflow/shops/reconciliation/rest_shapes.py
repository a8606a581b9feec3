"""Writes what the Admin API says as the REST resources that webhooks carry.

Webhooks are REST resources and the Admin API is GraphQL. What is read from the latter takes the shape of the former,
so that from the event log on its way is the same, for services of other people too. Only fields that Shopify
documents for the REST resource are written (https://shopify.dev/docs/api/admin-rest/latest/resources/order, …/refund
and …/customer), those that the documents beside the client ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sellflow.shopify.documents.customers import Customer
from sellflow.shopify.documents.nodes import Money, MoneyBag, number_of
from sellflow.shopify.documents.orders import (
    Buyer,
    LineItem,
    OrderAdjustment,
    OrderHead,
    Refund,
    RefundLineItem,
    RefundShippingLine,
    Transaction,
)

Json = dict[str, Any]
ZERO = Decimal(0)


def order_resource(
    order: OrderHead, lines: Sequence[LineItem], refunds: Sequence[tuple[Refund, Sequence[RefundLineItem]]]
) -> Json:
    """Return an order as orders/… webhooks carry it; `lines` and `refunds`, with their lines, are all there are."""
    return {
        "id": order.legacy_resource_id,
        "admin_graphql_api_id": order.id,
        "name": order.name,
        "order_number": order.order_number,
        "email": order.email,
        "phone": order.phone,
        "note": order.note,
        "tags": ", ".join(order.tags),
        "test": order.test,
        "created_at": _moment(order.created_at),
        "updated_at": _moment(order.updated_at),
        "processed_at": _moment(order.processed_at),
        "cancelled_at": _moment(order.cancelled_at),
        "closed_at": _moment(order.closed_at),
        "cancel_reason": _lower(order.cancel_reason),
        "currency": order.currency_code,
        "presentment_currency": order.presentment_currency_code,
        "taxes_included": order.taxes_included,
        "financial_status": _lower(order.display_financial_status),
        "fulfillment_status": _fulfillment(order.display_fulfillment_status),
        "discount_codes": [{"code": code} for code in order.discount_codes],
        "source_name": order.source_name,
        "customer": _buyer(order.customer),
        **_priced("subtotal_price", order.subtotal_price_set),
        **_priced("total_price", order.total_price_set),
        **_priced("total_tax", order.total_tax_set),
        **_priced("total_discounts", order.total_discounts_set),
        "total_shipping_price_set": _money_set(order.total_shipping_price_set),
        "line_items": [_line(line) for line in lines],
        "refunds": [refund_resource(*refund) for refund in refunds],
    }


def refund_resource(refund: Refund, lines: Sequence[RefundLineItem]) -> Json:
    """Return a refund as refunds/create carries it; `lines` are all there are."""
    order_id = refund.order.number
    adjustments = [_discrepancy(order_id, each) for each in refund.order_adjustments.nodes]
    shipping = [_shipping_refund(order_id, each) for each in refund.refund_shipping_lines.nodes]
    return {
        "id": refund.legacy_resource_id,
        "admin_graphql_api_id": refund.id,
        "order_id": order_id,
        "created_at": _moment(refund.created_at or refund.processed_at),
        "processed_at": _moment(refund.processed_at),
        "note": refund.note,
        "refund_line_items": [_refunded_line(line) for line in lines],
        "order_adjustments": [*shipping, *adjustments],
        "transactions": [_transaction(order_id, each) for each in refund.transactions.nodes],
    }


def customer_resource(customer: Customer) -> Json:
    """Return a customer as customers/… webhooks carry it."""
    email, phone = customer.default_email_address, customer.default_phone_number
    consent = {"state": _lower(email.marketing_state)} if email and email.marketing_state else None
    return {
        "id": customer.legacy_resource_id,
        "admin_graphql_api_id": customer.id,
        "created_at": _moment(customer.created_at),
        "updated_at": _moment(customer.updated_at),
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "email": email.email_address if email else None,
        "phone": phone.phone_number if phone else None,
        "email_marketing_consent": consent,
        "state": customer.state.lower(),
        "note": customer.note,
        "tags": ", ".join(customer.tags),
        "locale": customer.locale,
        "verified_email": customer.verified_email,
        "tax_exempt": customer.tax_exempt,
        "orders_count": customer.number_of_orders,
        "total_spent": str(customer.amount_spent.amount),
        "currency": customer.amount_spent.currency_code,
    }


def _buyer(buyer: Buyer | None) -> Json | None:
    if buyer is None:
        return None
    email = buyer.default_email_address
    return {
        "id": buyer.legacy_resource_id,
        "first_name": buyer.first_name,
        "last_name": buyer.last_name,
        "email": email.email_address if email else None,
    }


def _line(line: LineItem) -> Json:
    return {
        "id": line.number,
        "title": line.title,
        "variant_title": line.variant_title,
        "name": f"{line.title} - {line.variant_title}" if line.variant_title else line.title,
        "sku": line.sku,
        "vendor": line.vendor,
        "product_id": line.product.number if line.product else None,
        "variant_id": line.variant.number if line.variant else None,
        "quantity": line.quantity,
        "current_quantity": line.current_quantity,
        "gift_card": line.is_gift_card,
        "requires_shipping": line.requires_shipping,
        "taxable": line.taxable,
        **_priced("price", line.original_unit_price_set),
        "discount_allocations": [_priced("amount", each.allocated_amount_set) for each in line.discount_allocations],
    }


def _refunded_line(line: RefundLineItem) -> Json:
    return {
        "id": number_of(line.id) if line.id else None,
        "line_item_id": line.line_item.number,
        "quantity": line.quantity,
        "restock_type": line.restock_type.lower(),
        **_priced("subtotal", line.subtotal_set),
        **_priced("total_tax", line.total_tax_set),
    }


def _discrepancy(order_id: int, adjustment: OrderAdjustment) -> Json:
    """Return an adjustment. GraphQL has only those that REST calls discrepancies; shipping stands by itself there."""
    return {
        "id": adjustment.number,
        "order_id": order_id,
        "kind": "refund_discrepancy",
        "reason": adjustment.reason,
        **_priced("amount", adjustment.amount_set),
        **_priced("tax_amount", adjustment.tax_amount_set),
    }


def _shipping_refund(order_id: int, shipping: RefundShippingLine) -> Json:
    """Return refunded shipping as the adjustment that REST makes of it: below zero is what the buyer got."""
    return {
        "id": shipping.number,
        "order_id": order_id,
        "kind": "shipping_refund",
        "reason": "Shipping refund",
        **_priced("amount", _negated(shipping.subtotal_amount_set)),
        **_priced("tax_amount", _negated(shipping.tax_amount_set)),
    }


def _transaction(order_id: int, transaction: Transaction) -> Json:
    """Return a transaction; its amount is in the currency that the buyer paid in, as in REST."""
    paid = transaction.amount_set.presentment_money
    return {
        "id": transaction.number,
        "order_id": order_id,
        "kind": transaction.kind.lower(),
        "status": transaction.status.lower(),
        "gateway": transaction.gateway,
        "amount": str(paid.amount),
        "currency": paid.currency_code,
        "created_at": _moment(transaction.created_at),
        "processed_at": _moment(transaction.processed_at),
    }


def _priced(name: str, bag: MoneyBag | None) -> Json:
    """Return a field in shop currency and its `…_set` beside it; neither where there is no amount."""
    return {} if bag is None else {name: str(bag.shop_money.amount), f"{name}_set": _money_set(bag)}


def _money_set(bag: MoneyBag) -> Json:
    return {"shop_money": _money(bag.shop_money), "presentment_money": _money(bag.presentment_money)}


def _money(money: Money) -> Json:
    return {"amount": str(money.amount), "currency_code": money.currency_code}


def _negated(bag: MoneyBag) -> MoneyBag:
    def negated(money: Money) -> Money:
        return money.model_copy(update={"amount": ZERO - money.amount})

    return MoneyBag(shop_money=negated(bag.shop_money), presentment_money=negated(bag.presentment_money))


def _fulfillment(status: str) -> str | None:
    """Return REST's word for how much was sent: it knows three, and none for nothing."""
    return {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked"}.get(status)


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _lower(word: str | None) -> str | None:
    return word.lower() if word else None
