"""Orders and their parts, in content what the webhooks' REST payloads say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sellflow.errors import NotFoundError
from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.catalogue import ProductOf, VariantOf
from sellflow.simulator.graphql.connections import page, plain_page
from sellflow.simulator.graphql.fields import Call, Fields, Value, moment, moment_or_none, number_of
from sellflow.simulator.graphql.metafields import METAFIELDS
from sellflow.simulator.graphql.money_fields import Amount, Bag, Postal, taxes
from sellflow.simulator.graphql.order_parts import DiscountOf, LineOf, RefundOf, ShippingOf, TransactionOf
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Customer, Order
from sellflow.simulator.money import ZERO, Money, total
from sellflow.simulator.totals import (
    current_quantity,
    current_totals,
    financial_status,
    is_paid,
    line_subtotal,
    line_tax,
    original_totals,
    outstanding,
    paid_back,
    received,
    refundable,
    tax_of,
)

ORDERS: connections.Order[Order] = connections.Order(
    number=lambda order: order.id,
    keys={
        "ID": lambda order: order.id,
        "CREATED_AT": lambda order: order.created_at,
        "PROCESSED_AT": lambda order: order.created_at,
        "UPDATED_AT": lambda order: order.updated_at,
        "ORDER_NUMBER": lambda order: order.number,
    },
    search={
        "id": lambda order: order.id,
        "name": lambda order: [order.name, f"{order.number}"],
        "created_at": lambda order: order.created_at,
        "processed_at": lambda order: order.created_at,
        "updated_at": lambda order: order.updated_at,
        "customer_id": lambda order: order.customer.id if order.customer else None,
        "email": lambda order: order.email,
        "financial_status": lambda order: financial_status(order).value,
        "status": lambda order: ["any", "cancelled" if order.cancelled_at else "open"],
        "tag": lambda order: tags_of(order.tags),
        "test": lambda _order: False,
    },
)


def tags_of(tags: str) -> list[str]:
    """Return the tags in a REST resource's comma-separated list."""
    return [tag.strip() for tag in tags.split(",") if tag.strip()]


def all_orders(_source: object, call: Call) -> Value:
    """Resolve `orders`."""
    return page(call.world.shopify.orders(call.world.domain), call, ORDERS, name="orders")


def one_order(_source: object, call: Call) -> Order | None:
    """Resolve `order`."""
    return find_order(call, call.arguments["id"])


def find_order(call: Call, identifier: str) -> Order | None:
    """Return the order of the shop that an identifier names."""
    try:
        order = call.world.shopify.order(number_of(identifier, "Order"))
    except NotFoundError:
        return None
    return order if order.domain == call.world.domain else None


def find_refund(call: Call, identifier: str) -> RefundOf | None:
    """Return the refund that an identifier names."""
    number = number_of(identifier, "Refund")
    placed = call.world.shopify.orders(call.world.domain)
    return next((RefundOf(order, one) for order in placed for one in order.refunds if one.id == number), None)


def customer_of(order: Order, call: Call) -> Customer | None:
    """Return an order's customer as the customer is now."""
    if order.customer is None:
        return None
    return call.world.shopify.customer(order.domain, order.customer.id)


def transactions_of(order: Order) -> list[TransactionOf]:
    """Return what was paid, and what was given back."""
    parent = order.transactions[-1] if order.transactions else None
    given_back = [refund.transaction for refund in order.refunds if refund.transaction]
    return [
        *(TransactionOf(order, done) for done in order.transactions),
        *(TransactionOf(order, done, parent) for done in given_back),
    ]


def _bag(order: Order, money: Money) -> Bag:
    return Bag(money, order.exchange)


def _refund_list(order: Order, call: Call) -> list[RefundOf]:
    return [RefundOf(order, refund) for refund in order.refunds][: call.argument("first")]


def _lines(order: Order, call: Call) -> Value:
    return plain_page([LineOf(order, line) for line in order.lines], call, lambda found: found.line.id)


IDENTITY: Fields[Order] = {
    "id": lambda order, _: gid("Order", order.id),
    "legacyResourceId": lambda order, _: f"{order.id}",
    "name": lambda order, _: order.name,
    "number": lambda order, _: order.number,
    "confirmationNumber": lambda order, _: order.token[:9].upper(),
    "confirmed": lambda _order, _: True,
    "createdAt": lambda order, _: moment(order.created_at),
    "processedAt": lambda order, _: moment(order.created_at),
    "updatedAt": lambda order, _: moment(order.updated_at),
    "cancelledAt": lambda order, _: moment_or_none(order.cancelled_at),
    "cancelReason": lambda order, _: order.cancel_reason.upper() if order.cancel_reason else None,
    "closed": lambda order, _: order.cancelled_at is not None,
    "closedAt": lambda order, _: moment_or_none(order.cancelled_at),
    "sourceName": lambda _order, _: "web",
    "sourceIdentifier": lambda _order, _: None,
    "statusPageUrl": lambda order, _: f"https://{order.domain}/{order.shop_id}/orders/{order.token}/authenticate",
}

STATE: Fields[Order] = {
    "displayFinancialStatus": lambda order, _: financial_status(order).value.upper(),
    "displayFulfillmentStatus": lambda _order, _: "UNFULFILLED",
    "fullyPaid": lambda order, _: is_paid(order),
    "unpaid": lambda order, _: not received(order).presentment,
    "refundable": lambda order, _: refundable(order).presentment > 0,
    "edited": lambda order, _: bool(order.edits),
    "test": lambda _order, _: False,
    "tags": lambda order, _: tags_of(order.tags),
    "note": lambda _order, _: None,
    "customAttributes": lambda _order, _: [],
    "paymentGatewayNames": lambda _order, _: ["bogus"],
    "currencyCode": lambda order, _: order.exchange.shop,
    "presentmentCurrencyCode": lambda order, _: order.exchange.presentment,
    "taxesIncluded": lambda order, _: order.market.taxes_included,
    "taxExempt": lambda _order, _: False,
    "estimatedTaxes": lambda _order, _: False,
    "dutiesIncluded": lambda _order, _: False,
    "discountCode": lambda order, _: next(iter(codes_of(order)), None),
    "discountCodes": lambda order, _: codes_of(order),
    "discountApplications": lambda order, call: plain_page(
        [DiscountOf(order)] if order.discount else [], call, lambda _: 1
    ),
}

AMOUNTS: Fields[Order] = {
    "subtotalPriceSet": lambda order, _: _bag(order, original_totals(order).subtotal),
    "totalPriceSet": lambda order, _: _bag(order, original_totals(order).total),
    "originalTotalPriceSet": lambda order, _: _bag(order, original_totals(order).total),
    "totalTaxSet": lambda order, _: _bag(order, original_totals(order).tax),
    "totalDiscountsSet": lambda order, _: _bag(order, original_totals(order).discounts),
    "totalShippingPriceSet": lambda order, _: _bag(order, original_totals(order).shipping),
    "totalTipReceivedSet": lambda order, _: _bag(order, ZERO),
    "currentSubtotalPriceSet": lambda order, _: _bag(order, current_totals(order).subtotal),
    "currentTotalPriceSet": lambda order, _: _bag(order, current_totals(order).total),
    "currentTotalTaxSet": lambda order, _: _bag(order, current_totals(order).tax),
    "currentTotalDiscountsSet": lambda order, _: _bag(order, current_totals(order).discounts),
    "currentShippingPriceSet": lambda order, _: _bag(order, current_totals(order).shipping),
    "currentTotalDutiesSet": lambda _order, _: None,
    "originalTotalDutiesSet": lambda _order, _: None,
    "currentTotalAdditionalFeesSet": lambda _order, _: None,
    "originalTotalAdditionalFeesSet": lambda _order, _: None,
    "currentSubtotalLineItemsQuantity": lambda order, _: sum(current_quantity(order, one) for one in order.lines),
    "subtotalLineItemsQuantity": lambda order, _: sum(line.quantity for line in order.lines),
    "totalOutstandingSet": lambda order, _: _bag(order, outstanding(order)),
    "totalReceivedSet": lambda order, _: _bag(order, received(order)),
    "totalRefundedSet": lambda order, _: _bag(order, paid_back(order)),
    "totalRefundedShippingSet": lambda order, _: _bag(order, total(refund.shipping for refund in order.refunds)),
    "netPaymentSet": lambda order, _: _bag(order, refundable(order)),
    "totalWeight": lambda order, _: f"{sum(one.variant.grams * one.quantity for one in order.lines)}",
    "taxLines": lambda order, _: taxes(order.market, _bag(order, original_totals(order).tax)),
    "currentTaxLines": lambda order, _: taxes(order.market, _bag(order, current_totals(order).tax)),
}

PARTS: Fields[Order] = {
    "customer": customer_of,
    "email": lambda order, _: order.email,
    "phone": lambda _order, _: None,
    "customerAcceptsMarketing": lambda order, _: bool(order.customer and order.customer.accepts_marketing),
    "customerLocale": lambda order, _: order.market.locale,
    "clientIp": lambda _order, _: "192.0.2.10",
    "billingAddress": lambda order, _: Postal(order.address, order.id),
    "shippingAddress": lambda order, _: Postal(order.address, order.id),
    "lineItems": _lines,
    "shippingLine": lambda order, _: ShippingOf(order),
    "shippingLines": lambda order, call: plain_page([ShippingOf(order)], call, lambda one: one.order.shipping_id),
    "refunds": _refund_list,
    "transactions": lambda order, call: transactions_of(order)[: call.argument("first")],
    "fulfillments": lambda _order, _: [],
}

LINE_ITEM: Fields[LineOf] = {
    "id": lambda found, _: gid("LineItem", found.line.id),
    "title": lambda found, _: found.line.product.title,
    "variantTitle": lambda found, _: found.line.variant.title,
    "name": lambda found, _: f"{found.line.product.title} - {found.line.variant.title}",
    "sku": lambda found, _: found.line.variant.sku,
    "vendor": lambda found, _: found.line.product.vendor,
    "quantity": lambda found, _: found.line.quantity,
    "currentQuantity": lambda found, _: current_quantity(found.order, found.line),
    "refundableQuantity": lambda found, _: current_quantity(found.order, found.line),
    "unfulfilledQuantity": lambda found, _: (
        0 if found.order.cancelled_at else current_quantity(found.order, found.line)
    ),
    "isGiftCard": lambda _found, _: False,
    "requiresShipping": lambda _found, _: True,
    "taxable": lambda _found, _: True,
    "customAttributes": lambda _found, _: [],
    "product": lambda found, _: ProductOf(found.line.product),
    "variant": lambda found, _: VariantOf(found.line.product, found.line.variant),
    "originalUnitPriceSet": lambda found, _: _bag(found.order, found.line.price),
    "originalTotalSet": lambda found, _: _bag(found.order, found.line.price.times(found.line.quantity)),
    # What a code takes off the whole order is no discount of the line, unless it is asked for.
    "discountedTotalSet": lambda found, call: _bag(found.order, _discounted(found, call)),
    "totalDiscountSet": lambda found, _: _bag(found.order, ZERO if _has_code(found.order) else found.line.discount),
    "taxLines": lambda found, _: taxes(found.order.market, _bag(found.order, line_tax(found.order, found.line))),
    "discountAllocations": lambda found, _: _allocations(found),
}

SHIPPING_LINE: Fields[ShippingOf] = {
    "id": lambda found, _: gid("ShippingLine", found.order.shipping_id),
    "title": lambda _found, _: "Standard",
    "code": lambda _found, _: "Standard",
    "source": lambda _found, _: "shopify",
    "carrierIdentifier": lambda _found, _: None,
    "custom": lambda _found, _: False,
    "isRemoved": lambda _found, _: False,
    "phone": lambda _found, _: None,
    "originalPriceSet": lambda found, _: _bag(found.order, found.order.shipping),
    "discountedPriceSet": lambda found, _: _bag(found.order, found.order.shipping),
    "currentDiscountedPriceSet": lambda found, _: _bag(found.order, current_totals(found.order).shipping),
    "discountAllocations": lambda _found, _: [],
    "taxLines": lambda found, _: taxes(
        found.order.market, _bag(found.order, tax_of(found.order, found.order.shipping))
    ),
}


def codes_of(order: Order) -> list[str]:
    """Return the discount codes that the buyer entered."""
    return [order.discount.code] if order.discount and _has_code(order) else []


def _has_code(order: Order) -> bool:
    return order.discount is not None and order.discount.value_type == "percentage"


def _discounted(found: LineOf, call: Call) -> Money:
    if _has_code(found.order) and not call.argument("withCodeDiscounts"):
        return found.line.price.times(found.line.quantity)
    return line_subtotal(found.line)


def _allocations(found: LineOf) -> list[Value]:
    if not found.line.discount.shop and not found.line.discount.presentment:
        return []
    return [
        {
            "allocatedAmountSet": _bag(found.order, found.line.discount),
            "discountApplication": DiscountOf(found.order),
        }
    ]


def _by_code(found: DiscountOf) -> bool:
    return _has_code(found.order)


def application_kind(found: DiscountOf) -> str:
    """Return the type of a discount application."""
    return "DiscountCodeApplication" if _by_code(found) else "ManualDiscountApplication"


def _value(found: DiscountOf, _call: Call) -> object:
    discount = found.order.discount
    assert discount is not None
    if _by_code(found):
        return {"__typename": "PricingPercentageValue", "percentage": float(discount.value)}
    return Amount(discount.value, found.order.exchange.shop)


def _code(found: DiscountOf, _call: Call) -> str:
    assert found.order.discount is not None
    return found.order.discount.code


APPLICATION: Fields[DiscountOf] = {
    "index": lambda _found, _: 0,
    "targetType": lambda _found, _: "LINE_ITEM",
    "allocationMethod": lambda found, _: "ACROSS" if _by_code(found) else "EACH",
    "targetSelection": lambda found, _: "ALL" if _by_code(found) else "EXPLICIT",
    "value": _value,
}

FIELDS: Mapping[str, Fields[Any]] = {
    "Order": {**IDENTITY, **STATE, **AMOUNTS, **PARTS, **METAFIELDS},
    "LineItem": LINE_ITEM,
    "ShippingLine": SHIPPING_LINE,
    "DiscountCodeApplication": {**APPLICATION, "code": _code},
    "ManualDiscountApplication": {**APPLICATION, "title": _code, "description": lambda _found, _: None},
}
