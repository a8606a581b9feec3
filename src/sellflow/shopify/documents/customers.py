"""Customers."""

from __future__ import annotations

from datetime import datetime

from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import Money, Node, Page, Reference


class EmailAddress(Node):
    """Where a customer gets mail, and whether they want any."""

    email_address: str
    marketing_state: str


class PhoneNumber(Node):
    """A customer's number."""

    phone_number: str


class Customer(Reference):
    """A customer as far as Sellflow keeps one."""

    legacy_resource_id: int
    created_at: datetime
    updated_at: datetime
    first_name: str | None
    last_name: str | None
    locale: str
    state: str
    note: str | None
    tags: tuple[str, ...]
    tax_exempt: bool
    verified_email: bool
    number_of_orders: int
    amount_spent: Money
    default_email_address: EmailAddress | None
    default_phone_number: PhoneNumber | None


class Customers(Node):
    """Answers `customers`."""

    customers: Page[Customer]


CUSTOMERS = Document("customers", Customers, ("fields_customer",))
