"""Customers."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sellflow.errors import NotFoundError
from sellflow.simulator.graphql import connections, store_credit
from sellflow.simulator.graphql.connections import page, plain_page
from sellflow.simulator.graphql.fields import Call, Fields, Value, moment, number_of
from sellflow.simulator.graphql.metafields import METAFIELDS
from sellflow.simulator.graphql.money_fields import Amount, Postal
from sellflow.simulator.graphql.orders import ORDERS, tags_of
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Customer, Order
from sellflow.simulator.totals import refundable

CUSTOMERS: connections.Order[Customer] = connections.Order(
    number=lambda customer: customer.id,
    keys={
        "ID": lambda customer: customer.id,
        "CREATED_AT": lambda customer: customer.created_at,
        "UPDATED_AT": lambda customer: customer.updated_at,
        "NAME": lambda customer: (customer.address.last_name + customer.address.first_name).lower(),
    },
    search={
        "id": lambda customer: customer.id,
        "created_at": lambda customer: customer.created_at,
        "updated_at": lambda customer: customer.updated_at,
        "email": lambda customer: customer.email,
        "first_name": lambda customer: customer.address.first_name,
        "last_name": lambda customer: customer.address.last_name,
        "tag": lambda customer: tags_of(customer.tags),
    },
)


def all_customers(_source: object, call: Call) -> Value:
    """Resolve `customers`."""
    return page(call.world.shopify.customers(call.world.domain), call, CUSTOMERS, name="customers")


def one_customer(_source: object, call: Call) -> Customer | None:
    """Resolve `customer`."""
    return find_customer(call, call.arguments["id"])


def find_customer(call: Call, identifier: str) -> Customer | None:
    """Return the customer whom an identifier names."""
    try:
        return call.world.shopify.customer(call.world.domain, number_of(identifier, "Customer"))
    except NotFoundError:
        return None


def _orders(customer: Customer, call: Call) -> list[Order]:
    return call.world.shopify.orders_of(call.world.domain, customer.id)


def _spent(customer: Customer, call: Call) -> Amount:
    """Resolve what a customer paid and did not get back."""
    kept = sum((refundable(order).shop for order in _orders(customer, call)), Decimal(0))
    return Amount(kept, call.world.shop.currency)


def _email_address(customer: Customer, _call: Call) -> Value:
    return {
        "emailAddress": customer.email,
        "marketingState": "SUBSCRIBED" if customer.accepts_marketing else "NOT_SUBSCRIBED",
        "marketingOptInLevel": "SINGLE_OPT_IN" if customer.accepts_marketing else None,
        "marketingUpdatedAt": None,
        "validFormat": True,
    }


def _consent(customer: Customer, _call: Call) -> Value:
    return {
        "marketingState": "SUBSCRIBED" if customer.accepts_marketing else "NOT_SUBSCRIBED",
        "marketingOptInLevel": "SINGLE_OPT_IN" if customer.accepts_marketing else None,
        "consentUpdatedAt": None,
    }


CUSTOMER: Fields[Customer] = {
    "id": lambda customer, _: gid("Customer", customer.id),
    "legacyResourceId": lambda customer, _: f"{customer.id}",
    "createdAt": lambda customer, _: moment(customer.created_at),
    "updatedAt": lambda customer, _: moment(customer.updated_at),
    "firstName": lambda customer, _: customer.address.first_name,
    "lastName": lambda customer, _: customer.address.last_name,
    "displayName": lambda customer, _: f"{customer.address.first_name} {customer.address.last_name}",
    "email": lambda customer, _: customer.email,
    "phone": lambda _customer, _: None,
    "defaultEmailAddress": _email_address,
    "defaultPhoneNumber": lambda _customer, _: None,
    "emailMarketingConsent": _consent,
    "smsMarketingConsent": lambda _customer, _: None,
    "verifiedEmail": lambda _customer, _: True,
    "state": lambda _customer, _: "DISABLED",
    "locale": lambda _customer, call: call.world.shop.market.locale.partition("-")[0],
    "note": lambda customer, _: customer.note,
    "tags": lambda customer, _: tags_of(customer.tags),
    "taxExempt": lambda _customer, _: False,
    "taxExemptions": lambda _customer, _: [],
    "multipassIdentifier": lambda _customer, _: None,
    "dataSaleOptOut": lambda _customer, _: False,
    "canDelete": lambda customer, call: not _orders(customer, call),
    "numberOfOrders": lambda customer, call: f"{len(_orders(customer, call))}",
    "amountSpent": _spent,
    "lastOrder": lambda customer, call: next(reversed(_orders(customer, call)), None),
    "orders": lambda customer, call: page(_orders(customer, call), call, ORDERS),
    "defaultAddress": lambda customer, _: Postal(customer.address, customer.address_id),
    "addresses": lambda customer, _: [Postal(customer.address, customer.address_id)],
    "addressesV2": lambda customer, call: plain_page(
        [Postal(customer.address, customer.address_id)], call, lambda postal: postal.number
    ),
    "storeCreditAccounts": store_credit.accounts_of,
}

FIELDS: Mapping[str, Fields[Any]] = {"Customer": {**CUSTOMER, **METAFIELDS}}
