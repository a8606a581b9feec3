"""Orders, their lines and their refunds."""

from __future__ import annotations

from datetime import datetime

from sellflow.shopify.documents.customers import EmailAddress
from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import MoneyBag, Node, Page, Reference


class DiscountAllocation(Node):
    """The part of a discount that falls to one line."""

    allocated_amount_set: MoneyBag


class LineItem(Reference):
    """A line as it was bought; `current_quantity` is what edits and refunds left of it."""

    title: str
    variant_title: str | None
    sku: str | None
    vendor: str | None
    quantity: int
    current_quantity: int
    is_gift_card: bool
    requires_shipping: bool
    taxable: bool
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
    tax_amount_set: MoneyBag


class Transaction(Reference):
    """Money that moved."""

    kind: str
    status: str
    gateway: str | None
    created_at: datetime
    processed_at: datetime | None
    amount_set: MoneyBag


class Refund(Reference):
    """A refund with all its parts."""

    legacy_resource_id: int
    created_at: datetime | None
    processed_at: datetime
    note: str | None
    order: Reference
    total_refunded_set: MoneyBag
    refund_line_items: Page[RefundLineItem]
    order_adjustments: Page[OrderAdjustment]
    refund_shipping_lines: Page[RefundShippingLine]
    transactions: Page[Transaction]


class Buyer(Reference):
    """Whose order it is."""

    legacy_resource_id: int
    first_name: str | None
    last_name: str | None
    default_email_address: EmailAddress | None


class OrderHead(Reference):
    """An order without lines and refunds."""

    legacy_resource_id: int
    name: str
    order_number: int
    email: str | None
    phone: str | None
    note: str | None
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
    source_name: str | None
    subtotal_price_set: MoneyBag | None
    total_price_set: MoneyBag
    total_tax_set: MoneyBag | None
    total_discounts_set: MoneyBag | None
    total_shipping_price_set: MoneyBag
    customer: Buyer | None


class RefundRevision(Reference):
    """That there is a refund."""

    created_at: datetime | None


class Order(OrderHead):
    """An order with a page of its lines; its refunds are named only."""

    line_items: Page[LineItem]
    refunds: tuple[RefundRevision, ...]


class OrderRevision(Reference):
    """How far an order has come."""

    legacy_resource_id: int
    created_at: datetime
    updated_at: datetime
    cancelled_at: datetime | None
    display_financial_status: str | None
    refunds: tuple[RefundRevision, ...]


class OrderRevisions(Node):
    """Answers `order_revisions`."""

    orders: Page[OrderRevision]


class OrderById(Node):
    """Answers `order_by_id`."""

    order: Order | None


class RefundById(Node):
    """Answers `refund_by_id`."""

    refund: Refund | None


ORDER_REVISIONS = Document("order_revisions", OrderRevisions)
ORDER_BY_ID = Document("order_by_id", OrderById, ("fields_order", "fields_line_item", "fields_money"))
REFUND_BY_ID = Document("refund_by_id", RefundById, ("fields_refund", "fields_money"))

#: Sizes that stay below the 1,000 points that one query may cost.
ORDER_REVISIONS_SIZES = {"first": 80, "refunds": 10}
ORDER_BY_ID_SIZES = {"lines": 50}
REFUND_BY_ID_SIZES = {"refundLines": 100}
