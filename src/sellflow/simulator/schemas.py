"""The JSON of the simulator's HTTP API, shared by the server and its client."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from sellflow.simulator.models import API_VERSION, HeaderFamily

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[Decimal, Field(ge=0, max_digits=15)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Faults(_Message):
    """How badly deliveries go: shares are probabilities per webhook, `delay_seconds` is the longest delay.

    A reordered webhook lets up to `reorder_window` later ones pass.
    """

    duplicate: Share = 0.0
    delay: Share = 0.0
    delay_seconds: float = Field(default=5.0, ge=0)
    lose: Share = 0.0
    reorder: Share = 0.0
    reorder_window: int = Field(default=10, ge=1)


class Mix(_Message):
    """What share of a run's orders meets which fate; the fates are drawn independently of each other."""

    partial_refund: Share = 0.08
    full_refund: Share = 0.03
    shipping_refund: Share = 0.02
    goodwill: Share = 0.02
    cancel: Share = 0.03
    edit: Share = 0.04
    no_customer: Share = 0.05
    customer_later: Share = 0.05
    foreign_currency: Share = 0.15
    unpaid: Share = 0.05


class RunPlan(_Message):
    """A run: `count` orders at `rate` a second (0: as fast as they are taken).

    Retries wait Shopify's gaps divided by `time_compression`; delays are not compressed.
    """

    count: int = Field(ge=1, le=1_000_000)
    rate: float = Field(default=0.0, ge=0)
    seed: int | None = None
    mix: Mix = Mix()
    faults: Faults = Faults()
    time_compression: float = Field(default=1.0, gt=0)


class RunStarted(_Message):
    """The answer to a started run."""

    run_id: str


class WebhookCounts(_Message):
    """What became of a run's webhooks; `attempts` and `duplicates` count requests."""

    meant: int
    acknowledged: int
    lost: int
    pending: int
    failed: int
    attempts: int
    duplicates: int


class RunStatus(_Message):
    """How far a run is. `done`: every webhook is acknowledged, lost or failed."""

    run_id: str
    shop: str
    state: Literal["running", "done", "cancelled"]
    orders: int
    refunds: int
    webhooks: WebhookCounts
    seed: int
    started_at: datetime
    seconds: float
    error: str | None = None


class SentAttempt(_Message):
    """One request: its answer's status, or why there was none."""

    at: datetime
    status: int | None = None
    error: str | None = None
    duplicate: bool = False


class SentWebhook(_Message):
    """One webhook that the simulator meant to send, `body` exactly as signed."""

    webhook_id: str
    topic: str
    order_id: int | None
    body: str
    outcome: Literal["pending", "acknowledged", "lost", "failed"]
    attempts: list[SentAttempt]


class FinalOrder(_Message):
    """An order's state as the simulator knows it.

    `subtotal` is before returns; `refunded` is goods and goodwill, without shipping and tax, never more than
    the subtotal. Both are in shop currency, `refunds` counts refund records (those of edits included).
    """

    order_id: int
    name: str
    customer_id: int | None
    currency: str
    paid: bool
    cancelled: bool
    subtotal: Decimal
    refunded: Decimal
    refunds: int


class ShopInput(_Message):
    """A shop to register; calling again changes where its webhooks go and keeps everything else."""

    currency: str = "USD"
    webhook_url: HttpUrl
    client_secret: str = Field(min_length=1)
    products: int = Field(default=20, ge=1, le=1000)
    customers: int = Field(default=50, ge=0, le=100_000)
    seed: int | None = None
    api_version: str = API_VERSION
    headers: HeaderFamily = HeaderFamily.WEBHOOK
    time_compression: float = Field(default=1.0, gt=0)


class LineInput(_Message):
    """A line: a variant of the shop (any, if not named); amounts in shop currency."""

    variant_id: int | None = None
    quantity: int = Field(default=1, ge=1, le=1000)
    price: Amount | None = None
    discount: Amount = Decimal(0)


class Sending(_Message):
    """What every call that sends webhooks takes."""

    faults: Faults = Faults()


class OrderInput(Sending):
    """One order; what is left out is invented. `no_customer` is a guest checkout."""

    lines: list[LineInput] | None = Field(default=None, min_length=1)
    customer_id: int | None = None
    no_customer: bool = False
    presentment_currency: str | None = None
    financial_status: Literal["paid", "authorized", "pending"] = "paid"
    shipping: Amount | None = None


class RefundedQuantity(_Message):
    """Pieces of a line."""

    line_item_id: int
    quantity: int = Field(ge=1)


class RefundInput(Sending):
    """A refund of lines, of an amount of shop currency or of the shipping; of all that is left if none."""

    line_items: list[RefundedQuantity] | None = Field(default=None, min_length=1)
    amount: Amount | None = None
    shipping: bool = False
    restock_type: Literal["return", "no_restock", "cancel"] = "return"


class CancelInput(Sending):
    """A cancellation; `refund` gives back the money too."""

    reason: Literal["customer", "inventory", "fraud", "declined", "other"] = "customer"
    refund: bool = False


class EditInput(Sending):
    """An order edit: lines to add, pieces to remove."""

    add: list[LineInput] = []
    remove: list[RefundedQuantity] = []


class AttachInput(Sending):
    """The customer that an order turns out to belong to."""

    customer_id: int


class CustomerInput(Sending):
    """A customer to invent, or what changes about one."""

    email: str | None = None
    tags: str | None = None
    note: str | None = None


class ComplianceInput(Sending):
    """The customer whose data is asked for or erased, with these orders; all of theirs, if none are named."""

    customer_id: int
    order_ids: list[int] | None = None
