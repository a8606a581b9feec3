"""What the simulated Shopify knows: shops, customers, products, orders and refunds, all of them frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from enum import StrEnum

from sellflow.simulator.money import ZERO, Exchange, Money

API_VERSION = "2026-10"


class HeaderFamily(StrEnum):
    """Which headers a delivery carries: `X-Shopify-…` of webhooks or the unprefixed ones of Events."""

    WEBHOOK = "webhook"
    EVENT = "event"


class FinancialStatus(StrEnum):
    """Shopify's `financial_status` of an order."""

    PENDING = "pending"
    AUTHORIZED = "authorized"
    PARTIALLY_PAID = "partially_paid"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    VOIDED = "voided"


class RestockType(StrEnum):
    """What became of refunded goods."""

    NO_RESTOCK = "no_restock"
    CANCEL = "cancel"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class App:
    """The app that a shop installed: where its webhooks go and what signs them."""

    webhook_url: str
    client_secret: str
    api_version: str = API_VERSION
    headers: HeaderFamily = HeaderFamily.WEBHOOK


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address."""

    first_name: str
    last_name: str
    street: str
    city: str
    postcode: str
    province: str
    province_code: str
    country: str
    country_code: str
    phone: str


@dataclass(frozen=True, slots=True)
class Customer:
    """A shopper with an account."""

    id: int
    email: str
    address_id: int
    address: Address
    accepts_marketing: bool
    created_at: datetime
    updated_at: datetime
    tags: str = ""
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """What is sold; `price` is in the shop's currency."""

    id: int
    title: str
    sku: str
    price: Decimal
    grams: int


@dataclass(frozen=True, slots=True)
class Product:
    """A product and its variants."""

    id: int
    title: str
    vendor: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Market:
    """Where a shop sells: its tax, whether prices include it, and its clock."""

    tax_title: str
    tax_rate: Decimal
    taxes_included: bool
    timezone: timezone
    locale: str


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop; `domain` is its myshopify.com name."""

    id: int
    domain: str
    currency: str
    app: App
    market: Market
    products: tuple[Product, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an order: `price` is for one piece, `discount` for all of them."""

    id: int
    product: Product
    variant: Variant
    quantity: int
    price: Money
    discount: Money = ZERO


@dataclass(frozen=True, slots=True)
class Discount:
    """The discount that an order's lines share; `value` is a percentage or an amount."""

    code: str
    value: Decimal
    value_type: str = "percentage"


@dataclass(frozen=True, slots=True)
class Transaction:
    """Money that moved: a `sale` towards the shop, a `refund` back."""

    id: int
    kind: str
    amount: Money
    at: datetime


@dataclass(frozen=True, slots=True)
class RefundedLine:
    """Pieces of a line taken back; `subtotal` is after discounts, and before tax unless prices include it."""

    id: int
    line_id: int
    quantity: int
    subtotal: Money
    tax: Money
    restock_type: RestockType


@dataclass(frozen=True, slots=True)
class Refund:
    """Goods or money given back.

    `discrepancy` is what was paid out beyond (below zero: short of) the value of the goods and shipping
    refunded; `adjustment_ids` name the order adjustments for shipping and for that. A record without
    `transaction` is an order edit that removed pieces.
    """

    id: int
    created_at: datetime
    lines: tuple[RefundedLine, ...] = ()
    shipping: Money = ZERO
    shipping_tax: Money = ZERO
    discrepancy: Money = ZERO
    adjustment_ids: tuple[int, int] = (0, 0)
    transaction: Transaction | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """One order edit: how many pieces of which line were added and removed."""

    id: int
    at: datetime
    added: tuple[tuple[int, int], ...]
    removed: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """An order and everything that happened to it. Amounts follow from its parts; see `totals`."""

    id: int
    number: int
    token: str
    shop_id: int
    domain: str
    market: Market
    exchange: Exchange
    customer: Customer | None
    email: str
    address: Address
    lines: tuple[Line, ...]
    shipping_id: int
    shipping: Money
    discount: Discount | None
    created_at: datetime
    updated_at: datetime
    transactions: tuple[Transaction, ...] = ()
    refunds: tuple[Refund, ...] = ()
    edits: tuple[Edit, ...] = ()
    cancelled_at: datetime | None = None
    cancel_reason: str | None = None
    is_authorized: bool = False
    tags: str = ""

    @property
    def name(self) -> str:
        """The order's name as the merchant sees it, such as "#1001"."""
        return f"#{self.number}"
