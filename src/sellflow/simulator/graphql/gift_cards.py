"""Gift cards."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from sellflow.errors import NotFoundError
from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.connections import page
from sellflow.simulator.graphql.fields import (
    Call,
    Fields,
    Value,
    decimal_of,
    moment,
    moment_or_none,
    number_of,
    payload,
    refused,
    user_error,
)
from sellflow.simulator.graphql.money_fields import Amount
from sellflow.simulator.graphql.records import GiftCard
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Customer
from sellflow.simulator.money import rounded

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
SHORTEST_CODE, LONGEST_CODE = 8, 20

GIFT_CARDS: connections.Order[GiftCard] = connections.Order(
    number=lambda card: card.id,
    keys={
        "ID": lambda card: card.id,
        "CREATED_AT": lambda card: card.created_at,
        "UPDATED_AT": lambda card: card.updated_at,
    },
    search={
        "id": lambda card: card.id,
        "created_at": lambda card: card.created_at,
        "updated_at": lambda card: card.updated_at,
        "status": lambda card: "disabled" if card.deactivated_at else "enabled",
        "customer_id": lambda card: card.customer_id,
    },
)


def find_card(call: Call, identifier: str) -> GiftCard | None:
    """Return the gift card that an identifier names."""
    return call.world.admin.gift_cards.get(number_of(identifier, "GiftCard"))


def create(_source: object, call: Call) -> Value:
    """Resolve `giftCardCreate`."""
    wanted = call.arguments["input"]
    error = _error(call, wanted)
    if error is not None:
        return refused(error, giftCard=None, giftCardCode=None)
    code, now = _code(wanted.get("code")), call.world.now
    value = _value(call, wanted)
    assert value is not None
    card = GiftCard(
        id=call.world.shopify.ids(),
        code=code,
        initial=value,
        balance=value,
        customer_id=number_of(wanted["customerId"], "Customer") if wanted.get("customerId") else None,
        expires_on=date.fromisoformat(wanted["expiresOn"]) if wanted.get("expiresOn") else None,
        note=wanted.get("note"),
        created_at=now,
        updated_at=now,
    )
    call.world.admin.gift_cards[card.id] = card
    return payload(giftCard=card, giftCardCode=code)


def deactivate(_source: object, call: Call) -> Value:
    """Resolve `giftCardDeactivate`: for ever, and as often as somebody asks."""
    card = find_card(call, call.arguments["id"])
    if card is None:
        error = user_error(["id"], "The gift card could not be found.", "GIFT_CARD_NOT_FOUND")
        return refused(error, giftCard=None)
    if card.deactivated_at is None:
        card = replace(card, deactivated_at=call.world.now, updated_at=call.world.now)
        call.world.admin.gift_cards[card.id] = card
    return payload(giftCard=card)


def _value(call: Call, wanted: Mapping[str, Any]) -> Decimal | None:
    money = wanted.get("initialAmount")
    amount = money["amount"] if money else wanted.get("initialValue")
    return None if amount is None else rounded(decimal_of(amount), call.world.shop.currency)


def _error(call: Call, wanted: Mapping[str, Any]) -> Value | None:
    value, code = _value(call, wanted), wanted.get("code")
    if value is None:
        return user_error(["input", "initialValue"], "can't be blank", "MISSING_ARGUMENT")
    if value <= 0:
        return user_error(["input", "initialValue"], "must be greater than 0", "GREATER_THAN")
    if code is not None and (error := _code_error(call, _code(code))) is not None:
        return error
    if wanted.get("customerId") and _customer(call, number_of(wanted["customerId"], "Customer")) is None:
        return user_error(["input", "customerId"], "The customer could not be found.", "CUSTOMER_NOT_FOUND")
    return None


def _code_error(call: Call, code: str) -> Value | None:
    at = ["input", "code"]
    if len(code) < SHORTEST_CODE:
        return user_error(at, f"is too short (minimum is {SHORTEST_CODE} characters)", "TOO_SHORT")
    if len(code) > LONGEST_CODE:
        return user_error(at, f"is too long (maximum is {LONGEST_CODE} characters)", "TOO_LONG")
    if not code.isalnum():
        return user_error(at, "can only contain letters and numbers", "INVALID")
    if any(card.code == code for card in call.world.admin.gift_cards.values()):
        return user_error(at, "Code has already been taken", "TAKEN")
    return None


def _code(wanted: str | None) -> str:
    if wanted is None:
        return "".join(secrets.choice(LETTERS) for _ in range(16))
    return wanted.replace(" ", "").replace("-", "").upper()


def _customer(call: Call, number: int | None) -> Customer | None:
    try:
        return call.world.shopify.customer(call.world.domain, number) if number else None
    except NotFoundError:
        return None


def _masked(card: GiftCard) -> str:
    return f"•••• •••• •••• {card.code[-4:].lower()}"


GIFT_CARD: Fields[GiftCard] = {
    "id": lambda card, _: gid("GiftCard", card.id),
    "initialValue": lambda card, call: Amount(card.initial, call.world.shop.currency),
    "balance": lambda card, call: Amount(card.balance, call.world.shop.currency),
    "lastCharacters": lambda card, _: card.code[-4:].lower(),
    "maskedCode": lambda card, _: _masked(card),
    "enabled": lambda card, _: card.deactivated_at is None,
    "deactivatedAt": lambda card, _: moment_or_none(card.deactivated_at),
    "expiresOn": lambda card, _: card.expires_on.isoformat() if card.expires_on else None,
    "customer": lambda card, call: _customer(call, card.customer_id),
    "note": lambda card, _: card.note,
    "order": lambda _card, _: None,
    "createdAt": lambda card, _: moment(card.created_at),
    "updatedAt": lambda card, _: moment(card.updated_at),
}

FIELDS: Mapping[str, Fields[Any]] = {"GiftCard": GIFT_CARD}


def all_cards(_source: object, call: Call) -> Value:
    """Resolve `giftCards`."""
    return page(call.world.admin.gift_cards.values(), call, GIFT_CARDS)
