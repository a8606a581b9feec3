"""Orders, their lines and their refunds."""

from __future__ import annotations

from datetime import datetime

from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import MoneyBag, Node, Page, Reference


class DiscountAllocation(Node):
    """The part of a discount that falls to one line."""

    allocated_amount_set: MoneyBag


class LineItem(Reference):
    """A line as it was bought; `current_quantity` is what edits and refunds left of it."""

    title: str
    sku: str | None
    quantity: int
    current_quantity: int
    product: Reference | None
    variant: Reference | None
    original_unit_price_set: MoneyBag
    discount_allocations: tuple[DiscountAllocation, ...]


class RefundLineItem(Node):
    """How much of a line was given back."""

    id: str | None
    quantity: int
    restock_type: str
    line_item: Reference
    subtotal_set: MoneyBag
    total_tax_set: MoneyBag


class OrderAdjustment(Reference):
    """The difference between what was given back and what the lines cost."""

    reason: str | None
    amount_set: MoneyBag
    tax_amount_set: MoneyBag


class RefundShippingLine(Reference):
    """Shipping that was given back."""

    subtotal_amount_set: MoneyBag


class Transaction(Reference):
    """Money that moved."""

    kind: str
    status: str
    processed_at: datetime | None
    amount_set: MoneyBag


class Refund(Reference):
    """A refund with all its parts."""

    legacy_resource_id: int
    created_at: datetime | None
    processed_at: datetime
    note: str | None
    total_refunded_set: MoneyBag
    refund_line_items: Page[RefundLineItem]
    order_adjustments: Page[OrderAdjustment]
    refund_shipping_lines: Page[RefundShippingLine]
    transactions: Page[Transaction]


class Buyer(Reference):
    """Whose order it is."""

    legacy_resource_id: int


class OrderHead(Reference):
    """An order without lines and refunds."""

    legacy_resource_id: int
    name: str
    email: str | None
    phone: str | None
    created_at: datetime
    updated_at: datetime
    processed_at: datetime
    cancelled_at: datetime | None
    cancel_reason: str | None
    closed_at: datetime | None
    currency_code: str
    presentment_currency_code: str
    display_financial_status: str | None
    display_fulfillment_status: str
    taxes_included: bool
    test: bool
    tags: tuple[str, ...]
    discount_codes: tuple[str, ...]
    subtotal_price_set: MoneyBag | None
    total_price_set: MoneyBag
    total_tax_set: MoneyBag | None
    total_discounts_set: MoneyBag | None
    total_shipping_price_set: MoneyBag
    customer: Buyer | None


class Order(OrderHead):
    """An order with its lines and refunds, as many as were asked for."""

    line_items: Page[LineItem]
    refunds: tuple[Refund, ...]


class RefundRevision(Reference):
    """That there is a refund."""

    created_at: datetime | None


class OrderRevision(Reference):
    """How far an order has come."""

    legacy_resource_id: int
    created_at: datetime
    updated_at: datetime
    refunds: tuple[RefundRevision, ...]


class Orders(Node):
    """Answers `orders`."""

    orders: Page[Order]


class OrderRevisions(Node):
    """Answers `order_revisions`."""

    orders: Page[OrderRevision]


class OrderById(Node):
    """Answers `order_by_id`."""

    order: Order | None


class RefundById(Node):
    """Answers `refund_by_id`."""

    refund: Refund | None


_DETAILS = ("fields_order", "fields_line_item", "fields_refund", "fields_money")

ORDERS = Document("orders", Orders, _DETAILS)
ORDER_REVISIONS = Document("order_revisions", OrderRevisions)
ORDER_BY_ID = Document("order_by_id", OrderById, _DETAILS)
REFUND_BY_ID = Document("refund_by_id", RefundById, ("fields_refund", "fields_money"))

#: Sizes that stay below the 1,000 points that one query may cost.
ORDERS_SIZES = {"first": 2, "lines": 20, "refunds": 2, "refundLines": 5}
ORDER_REVISIONS_SIZES = {"first": 80}
ORDER_BY_ID_SIZES = {"lines": 40, "refunds": 3, "refundLines": 10}
REFUND_BY_ID_SIZES = {"refundLines": 100}
