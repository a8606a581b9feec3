"""Discounts with a code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.connections import page, plain_page
from sellflow.simulator.graphql.fields import (
    Call,
    Fields,
    NotSimulatedError,
    Value,
    decimal_of,
    find,
    moment,
    moment_of,
    moment_or_none,
    number_of,
    payload,
    refused,
    user_error,
)
from sellflow.simulator.graphql.metafields import METAFIELDS
from sellflow.simulator.graphql.money_fields import Amount
from sellflow.simulator.graphql.records import CodeDiscount
from sellflow.simulator.ids import gid

BASIC, FREE_SHIPPING = "DiscountCodeBasic", "DiscountCodeFreeShipping"
_INPUTS = {BASIC: "basicCodeDiscount", FREE_SHIPPING: "freeShippingCodeDiscount"}


@dataclass(frozen=True, slots=True)
class DiscountNode:
    """A discount as a node; the discount itself is the union within."""

    discount: CodeDiscount


DISCOUNTS: connections.Order[DiscountNode] = connections.Order(
    number=lambda node: node.discount.id,
    keys={
        "ID": lambda node: node.discount.id,
        "CREATED_AT": lambda node: node.discount.created_at,
        "UPDATED_AT": lambda node: node.discount.updated_at,
        "TITLE": lambda node: f"{node.discount.wanted.get('title')}",
    },
    search={
        "id": lambda node: node.discount.id,
        "code": lambda node: node.discount.code,
        "title": lambda node: node.discount.wanted.get("title"),
        "created_at": lambda node: node.discount.created_at,
        "updated_at": lambda node: node.discount.updated_at,
    },
)


def find_discount(call: Call, identifier: str) -> DiscountNode | None:
    """Return the discount that an identifier names."""
    found = call.world.admin.discounts.get(number_of(identifier, "DiscountCodeNode"))
    return DiscountNode(found) if found else None


def by_code(_source: object, call: Call) -> DiscountNode | None:
    """Resolve `codeDiscountNodeByCode`: codes know no case."""
    return _with_code(call, call.arguments["code"])


def all_discounts(_source: object, call: Call) -> Value:
    """Resolve `codeDiscountNodes`."""
    return page([DiscountNode(one) for one in call.world.admin.discounts.values()], call, DISCOUNTS)


def creator(kind: str) -> Callable[[object, Call], Value]:
    """Return what resolves the mutation that creates discounts of a `kind`."""

    def create(_source: object, call: Call) -> Value:
        wanted = call.arguments[_INPUTS[kind]]
        errors = _errors(call, _INPUTS[kind], wanted)
        if errors:
            return refused(*errors, codeDiscountNode=None)
        now = call.world.now
        made = CodeDiscount(
            id=call.world.shopify.ids(),
            kind=kind,
            wanted=dict(wanted),
            code=wanted["code"],
            code_id=call.world.shopify.ids(),
            starts_at=moment_of(wanted["startsAt"]),
            ends_at=moment_of(wanted["endsAt"]) if wanted.get("endsAt") else None,
            created_at=now,
            updated_at=now,
        )
        call.world.admin.discounts[made.id] = made
        return payload(codeDiscountNode=DiscountNode(made))

    return create


def deactivate(_source: object, call: Call) -> Value:
    """Resolve `discountCodeDeactivate`: it ends now."""
    node = find_discount(call, call.arguments["id"])
    if node is None:
        return refused(_unknown(), codeDiscountNode=None)
    discount, now = node.discount, call.world.now
    if discount.status(now) != "EXPIRED":
        starts_at = min(discount.starts_at, now)
        discount = replace(discount, starts_at=starts_at, ends_at=now, updated_at=now)
        call.world.admin.discounts[discount.id] = discount
    return payload(codeDiscountNode=DiscountNode(discount))


def delete(_source: object, call: Call) -> Value:
    """Resolve `discountCodeDelete`: its code is free again."""
    node = find_discount(call, call.arguments["id"])
    if node is None:
        return refused(_unknown(), deletedCodeDiscountId=None)
    del call.world.admin.discounts[node.discount.id]
    return payload(deletedCodeDiscountId=gid("DiscountCodeNode", node.discount.id))


def _unknown() -> Value:
    return user_error(["id"], "Code discount does not exist.", "INVALID", extraInfo=None)


def _with_code(call: Call, code: str) -> DiscountNode | None:
    found = (one for one in call.world.admin.discounts.values() if one.code.lower() == code.lower())
    return next((DiscountNode(one) for one in found), None)


def _errors(call: Call, at: str, wanted: Mapping[str, Any]) -> list[Value]:
    errors = [
        user_error([at, name], f"{title} can't be blank", "BLANK", extraInfo=None)
        for name, title in (("title", "Title"), ("code", "Code"), ("startsAt", "Starts at"))
        if not wanted.get(name)
    ]
    if errors:
        return errors
    if len(wanted["code"]) > 255:
        message = "Code is too long (maximum is 255 characters)"
        errors.append(user_error([at, "code"], message, "TOO_LONG", extraInfo=None))
    if _with_code(call, wanted["code"]) is not None:
        message = "Code must be unique. Please try a different code."
        errors.append(user_error([at, "code"], message, "TAKEN", extraInfo=None))
    if wanted.get("endsAt") and moment_of(wanted["endsAt"]) <= moment_of(wanted["startsAt"]):
        message = "Ends at needs to be after starts_at"
        errors.append(user_error([at, "endsAt"], message, "END_DATE_BEFORE_START_DATE", extraInfo=None))
    return errors + _context_errors(call, at, wanted) + _value_errors(at, wanted)


def _context_errors(call: Call, at: str, wanted: Mapping[str, Any]) -> list[Value]:
    if wanted.get("context") is not None and wanted.get("customerSelection") is not None:
        message = "Only one of context or customerSelection can be provided."
        return [user_error([at, "context"], message, "INVALID", extraInfo=None)]
    added = ((wanted.get("context") or {}).get("customers") or {}).get("add") or []
    if any(number_of(one, "Customer") == 0 or find(call, one) is None for one in added):
        message = "Customers are invalid"
        return [user_error([at, "context", "customers", "add"], message, "INVALID", extraInfo=None)]
    return []


def _value_errors(at: str, wanted: Mapping[str, Any]) -> list[Value]:
    value = (wanted.get("customerGets") or {}).get("value") or {}
    given = [name for name in ("percentage", "discountAmount", "discountOnQuantity") if value.get(name) is not None]
    place = [at, "customerGets", "value"]
    if at == _INPUTS[FREE_SHIPPING]:
        return []
    if len(given) != 1:
        message = "Customer gets value must have exactly one of percentage, discountAmount and discountOnQuantity"
        return [user_error(place, message, "INVALID", extraInfo=None)]
    if given == ["percentage"] and not 0 < value["percentage"] <= 1:
        message = "Value must be between 0.0 and 1.0"
        return [user_error([*place, "percentage"], message, "VALUE_OUTSIDE_RANGE", extraInfo=None)]
    if given == ["discountAmount"] and decimal_of(value["discountAmount"]["amount"]) <= 0:
        message = "Value must be greater than 0"
        return [user_error([*place, "discountAmount", "amount"], message, "GREATER_THAN", extraInfo=None)]
    return []


def _customer_gets(found: CodeDiscount, call: Call) -> Value:
    wanted = found.wanted["customerGets"]
    value = wanted["value"]
    shown: Value = {"__typename": "DiscountPercentage", "percentage": value.get("percentage")}
    if value.get("discountAmount") is not None:
        amount = Amount(decimal_of(value["discountAmount"]["amount"]), call.world.shop.currency)
        each = bool(value["discountAmount"].get("appliesOnEachItem"))
        shown = {"__typename": "DiscountAmount", "amount": amount, "appliesOnEachItem": each}
    elif value.get("discountOnQuantity") is not None:
        raise NotSimulatedError("DiscountOnQuantity")
    return {
        "appliesOnOneTimePurchase": wanted.get("appliesOnOneTimePurchase") is not False,
        "appliesOnSubscription": bool(wanted.get("appliesOnSubscription")),
        "items": {"__typename": "AllDiscountItems", "allItems": True},
        "value": shown,
    }


def _context(found: CodeDiscount, call: Call) -> Value:
    context = found.wanted.get("context") or {}
    if context.get("customers") is not None:
        customers = [find(call, one) for one in context["customers"].get("add") or ()]
        return {"__typename": "DiscountCustomers", "customers": [one for one in customers if one]}
    if context.get("customerSegments") is not None or context.get("markets") is not None:
        raise NotSimulatedError("a discount's context of segments or markets")
    return {"__typename": "DiscountBuyerSelectionAll", "all": "ALL"}


def _minimum(found: CodeDiscount, call: Call) -> Value | None:
    wanted = found.wanted.get("minimumRequirement") or {}
    if (wanted.get("subtotal") or {}).get("greaterThanOrEqualToSubtotal") is not None:
        amount = decimal_of(wanted["subtotal"]["greaterThanOrEqualToSubtotal"])
        minimum = Amount(amount, call.world.shop.currency)
        return {"__typename": "DiscountMinimumSubtotal", "greaterThanOrEqualToSubtotal": minimum}
    if (wanted.get("quantity") or {}).get("greaterThanOrEqualToQuantity") is not None:
        quantity = f"{wanted['quantity']['greaterThanOrEqualToQuantity']}"
        return {"__typename": "DiscountMinimumQuantity", "greaterThanOrEqualToQuantity": quantity}
    return None


def _codes(found: CodeDiscount, call: Call) -> Value:
    code: Value = {"id": gid("DiscountRedeemCode", found.code_id), "code": found.code, "asyncUsageCount": 0}
    return plain_page([code], call, lambda _: found.code_id)


def _combines(found: CodeDiscount, _call: Call) -> Value:
    wanted = found.wanted.get("combinesWith") or {}
    names = ("orderDiscounts", "productDiscounts", "shippingDiscounts")
    return {name: bool(wanted.get(name)) for name in names}


DISCOUNT: Fields[CodeDiscount] = {
    "title": lambda found, _: found.wanted["title"],
    "status": lambda found, call: found.status(call.world.now),
    "startsAt": lambda found, _: moment(found.starts_at),
    "endsAt": lambda found, _: moment_or_none(found.ends_at),
    "createdAt": lambda found, _: moment(found.created_at),
    "updatedAt": lambda found, _: moment(found.updated_at),
    "usageLimit": lambda found, _: found.wanted.get("usageLimit"),
    "appliesOncePerCustomer": lambda found, _: bool(found.wanted.get("appliesOncePerCustomer")),
    "asyncUsageCount": lambda _found, _: 0,
    "codes": _codes,
    "codesCount": lambda _found, _: {"count": 1, "precision": "EXACT"},
    "combinesWith": _combines,
    "context": _context,
    "minimumRequirement": _minimum,
    "tags": lambda found, _: found.wanted.get("tags") or [],
}

NODE: Fields[DiscountNode] = {
    "id": lambda node, _: gid("DiscountCodeNode", node.discount.id),
    "codeDiscount": lambda node, _: node.discount,
}

FIELDS: Mapping[str, Fields[Any]] = {
    "DiscountCodeNode": {**NODE, **METAFIELDS},
    BASIC: {**DISCOUNT, "customerGets": _customer_gets, "discountClasses": lambda _found, _: ["ORDER"]},
    FREE_SHIPPING: {**DISCOUNT, "discountClasses": lambda _found, _: ["SHIPPING"]},
}
