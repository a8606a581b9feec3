"""Tags of orders and customers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from sellflow.simulator import notices
from sellflow.simulator.graphql.fields import (
    Call,
    NotSimulatedError,
    Value,
    find,
    payload,
    refused,
    resource_of,
    user_error,
)
from sellflow.simulator.graphql.orders import tags_of
from sellflow.simulator.models import Customer, Order


def add(_source: object, call: Call) -> Value:
    """Resolve `tagsAdd`: what is there in another case is there."""
    return _change(call, lambda tags, more: {tag.lower(): tag for tag in reversed([*tags, *more])})


def remove(_source: object, call: Call) -> Value:
    """Resolve `tagsRemove`."""
    return _change(call, lambda tags, gone: {tag.lower(): tag for tag in tags if tag.lower() not in _lower(gone)})


def _lower(tags: list[str]) -> set[str]:
    return {tag.lower() for tag in tags}


def _change(call: Call, changed: Callable[[list[str], list[str]], dict[str, str]]) -> Value:
    identifier = call.arguments["id"]
    if resource_of(identifier) not in ("Customer", "Order"):
        raise NotSimulatedError(f"tagging a {resource_of(identifier)}")
    found = cast("Customer | Order | None", find(call, identifier))
    if found is None:
        return refused(user_error(["id"], f"{resource_of(identifier)} does not exist"), node=None)
    wanted = [part for tag in call.arguments["tags"] for part in tags_of(tag)]
    by_name = changed(tags_of(found.tags), wanted)
    tags = ", ".join(by_name[name] for name in sorted(by_name))
    return payload(node=found if tags == found.tags else _kept(call, found, tags))


def _kept(call: Call, found: Customer | Order, tags: str) -> Customer | Order:
    world = call.world
    if isinstance(found, Customer):
        customer = replace(found, tags=tags, updated_at=world.now)
        world.shopify.keep_customer(world.domain, customer)
        world.notices.append(notices.customer_changed("customers/update", customer, world.shop))
        return customer
    change = world.shopify.tag(found.id, tags)
    world.notices.extend(change.notices)
    return change.order
