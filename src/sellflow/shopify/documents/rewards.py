"""What points are exchanged for, and metafields. Shopify knows no idempotency key for any of these."""

from __future__ import annotations

from datetime import date, datetime

from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import CodedError, Money, Node, Payload, Reference


class Metafield(Reference):
    """A metafield as it was set."""

    namespace: str
    key: str
    compare_digest: str
    updated_at: datetime


class MetafieldError(CodedError):
    """Why no metafield of the call was set."""

    element_index: int | None


class MetafieldsPayload(Payload):
    """All metafields, or none."""

    metafields: tuple[Metafield, ...] | None
    user_errors: tuple[MetafieldError, ...]


class MetafieldsSet(Node):
    """Answers `metafields_set`."""

    metafields_set: MetafieldsPayload | None


class DiscountPayload(Payload):
    """The discount, or why there is none."""

    code_discount_node: Reference | None
    user_errors: tuple[CodedError, ...]


class DiscountCodeCreated(Node):
    """Answers `discount_code_create`."""

    discount_code_basic_create: DiscountPayload | None


class DiscountCodeDeactivated(Node):
    """Answers `discount_code_deactivate`."""

    discount_code_deactivate: DiscountPayload | None


class CodeDiscount(Node):
    """A code's discount; one of a kind that Sellflow does not make shows none of these."""

    title: str | None = None
    status: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    usage_limit: int | None = None
    async_usage_count: int | None = None


class DiscountNode(Reference):
    """A discount that has a code."""

    code_discount: CodeDiscount


class DiscountCodeFound(Node):
    """Answers `discount_code_lookup`."""

    code_discount_node_by_code: DiscountNode | None


class GiftCard(Reference):
    """A gift card; its code is told once, beside it."""

    last_characters: str
    enabled: bool
    expires_on: date | None
    initial_value: Money
    balance: Money


class GiftCardPayload(Payload):
    """The card with its code, or why there is none."""

    gift_card: GiftCard | None
    gift_card_code: str | None
    user_errors: tuple[CodedError, ...]


class GiftCardCreated(Node):
    """Answers `gift_card_create`."""

    gift_card_create: GiftCardPayload | None


class EndedGiftCard(Reference):
    """A gift card that can no longer be used."""

    enabled: bool
    deactivated_at: datetime | None


class EndedGiftCardPayload(Payload):
    """The card, or why it can still be used."""

    gift_card: EndedGiftCard | None
    user_errors: tuple[CodedError, ...]


class GiftCardDeactivated(Node):
    """Answers `gift_card_deactivate`."""

    gift_card_deactivate: EndedGiftCardPayload | None


class StoreCreditTransaction(Reference):
    """Store credit that was given."""

    created_at: datetime
    expires_at: datetime | None
    amount: Money
    balance_after_transaction: Money
    account: Reference


class StoreCreditPayload(Payload):
    """The transaction, or why there is none."""

    store_credit_account_transaction: StoreCreditTransaction | None
    user_errors: tuple[CodedError, ...]


class StoreCredited(Node):
    """Answers `store_credit_credit`."""

    store_credit_account_credit: StoreCreditPayload | None


METAFIELDS_SET = Document("metafields_set", MetafieldsSet)
DISCOUNT_CODE_CREATE = Document("discount_code_create", DiscountCodeCreated)
DISCOUNT_CODE_DEACTIVATE = Document("discount_code_deactivate", DiscountCodeDeactivated)
DISCOUNT_CODE_LOOKUP = Document("discount_code_lookup", DiscountCodeFound)
GIFT_CARD_CREATE = Document("gift_card_create", GiftCardCreated)
GIFT_CARD_DEACTIVATE = Document("gift_card_deactivate", GiftCardDeactivated)
STORE_CREDIT_CREDIT = Document("store_credit_credit", StoreCredited)
