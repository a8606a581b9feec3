"""The lines of an order as REST resources: line items, shipping lines, discounts."""

from __future__ import annotations

from sellflow.simulator.ids import gid
from sellflow.simulator.models import Line, Order
from sellflow.simulator.money import ZERO, Money, text
from sellflow.simulator.payload_parts import Json, money_set, priced, tax_lines
from sellflow.simulator.totals import current_quantity, line_tax, original_totals, tax_of


def line_item(order: Order, line: Line) -> Json:
    """Return a LineItem.

    `total_discount` stays zero: Shopify fills it only on draft orders, and gives what a discount of the order
    takes off a line in `discount_allocations` (Admin REST, Order resource).
    """
    left = current_quantity(order, line)
    return {
        "id": line.id,
        "admin_graphql_api_id": gid("LineItem", line.id),
        **_sold(line),
        "quantity": line.quantity,
        "current_quantity": left,
        "fulfillable_quantity": 0 if order.cancelled_at else left,
        "fulfillment_service": "manual",
        "fulfillment_status": None,
        "attributed_staffs": [],
        "gift_card": False,
        "properties": [],
        "requires_shipping": True,
        "sales_line_item_group_id": None,
        "taxable": True,
        **priced("price", line.price, order.exchange),
        **priced("total_discount", ZERO, order.exchange),
        "tax_lines": tax_lines(order, line_tax(order, line)),
        "duties": [],
        "discount_allocations": _allocations(order, line.discount),
    }


def _sold(line: Line) -> Json:
    return {
        "product_id": line.product.id,
        "product_exists": True,
        "variant_id": line.variant.id,
        "variant_title": line.variant.title,
        "variant_inventory_management": "shopify",
        "title": line.product.title,
        "name": f"{line.product.title} - {line.variant.title}",
        "sku": line.variant.sku,
        "vendor": line.product.vendor,
        "grams": line.variant.grams,
    }


def _allocations(order: Order, discount: Money) -> list[Json]:
    if not discount.shop and not discount.presentment:
        return []
    allocation: Json = {
        "amount": text(discount.shop, order.exchange.shop),
        "amount_set": money_set(discount, order.exchange),
        "discount_application_index": 0,
    }
    return [allocation]


def shipping_lines(order: Order) -> list[Json]:
    """Return the order's shipping, one line."""
    left = order.shipping
    for refund in order.refunds:
        left -= refund.shipping
    line: Json = {
        "id": order.shipping_id,
        "carrier_identifier": None,
        "code": "Standard",
        "title": "Standard",
        "source": "shopify",
        "phone": None,
        "requested_fulfillment_service_id": None,
        "is_removed": False,
        "discount_allocations": [],
        "tax_lines": tax_lines(order, tax_of(order, order.shipping)),
    }
    for name, amount in (("price", order.shipping), ("discounted_price", order.shipping)):
        line |= priced(name, amount, order.exchange)
    return [line | {"current_discounted_price_set": money_set(left, order.exchange)}]


def discount_applications(order: Order) -> list[Json]:
    """Return what reduces the order's lines."""
    discount = order.discount
    if discount is None:
        return []
    by_code = discount.value_type == "percentage"
    application: Json = {
        "target_type": "line_item",
        "type": "discount_code" if by_code else "manual",
        "value": str(discount.value),
        "value_type": discount.value_type,
        "allocation_method": "across" if by_code else "each",
        "target_selection": "all" if by_code else "explicit",
    }
    return [application | ({"code": discount.code} if by_code else {"title": discount.code})]


def discount_codes(order: Order) -> list[Json]:
    """Return the codes that the buyer entered, with what each took off in shop currency."""
    if order.discount is None or order.discount.value_type != "percentage":
        return []
    amount = text(original_totals(order).discounts.shop, order.exchange.shop)
    return [{"code": order.discount.code, "amount": amount, "type": "percentage"}]
