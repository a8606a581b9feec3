"""The Customer Account API's GraphQL: Shopify's real schema, and the fields of it that are simulated."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError, GraphQLResolveInfo, GraphQLSchema, build_client_schema, graphql_sync

from sellflow.simulator.accounts.errors import SchemaMissingError
from sellflow.simulator.ids import gid
from sellflow.simulator.models import API_VERSION, Customer, Order, Shop
from sellflow.simulator.money import text
from sellflow.simulator.payload_parts import Json
from sellflow.simulator.totals import current_totals, financial_status, original_totals, paid_back

if TYPE_CHECKING:
    from sellflow.simulator.service import Simulator

MOST_ON_A_PAGE = 250
PACKAGE = "@shopify/dev-mcp@1.16.0"


@lru_cache(maxsize=2)
def load_schema(directory: Path) -> GraphQLSchema:
    """Return the schema, read at the first call.

    Raises
    ------
    SchemaMissingError
        If its file is not there.
    """
    path = directory / f"customer_{API_VERSION}.json.gz"
    if not path.is_file():
        raise SchemaMissingError(
            f"the Customer Account API answers through Shopify's own schema, and {path} is not there: run 'make "
            f"install', or 'npm pack {PACKAGE}' and put package/dist/data/{path.name} there"
        )
    with gzip.open(path) as file:
        return build_client_schema(json.load(file)["data"], assume_valid=True)


def answer_of(simulator: Simulator, shop: Shop, customer_id: int, asked: object) -> Json:
    """Return the answer to a request of a signed-in customer.

    Raises
    ------
    SchemaMissingError
        If Shopify's schema was not fetched.
    """
    schema = load_schema(simulator.schema_dir)
    if not isinstance(asked, dict) or not isinstance(asked.get("query"), str):
        return {"errors": [{"message": "The body must hold a query."}]}
    variables, operation = asked.get("variables") or {}, asked.get("operationName")
    result = graphql_sync(
        schema,
        asked["query"],
        root_value={"customer": lambda **_: _customer(simulator, shop, customer_id), "shop": {"name": _name(shop)}},
        variable_values=variables if isinstance(variables, dict) else {},
        operation_name=operation if isinstance(operation, str) else None,
        field_resolver=resolve,
    )
    return dict(result.formatted)


def resolve(source: Mapping[str, Any], info: GraphQLResolveInfo[Any], **arguments: object) -> object:
    """Return a field of what is simulated; anything else is an error that names it, never a silent null."""
    if info.field_name not in source:
        raise GraphQLError(f"{info.parent_type.name}.{info.field_name} is not simulated")
    found = source[info.field_name]
    if callable(found):
        return found(**arguments)
    if arguments:
        raise GraphQLError(f"{info.parent_type.name}.{info.field_name}: arguments are not simulated")
    return found


def _customer(simulator: Simulator, shop: Shop, customer_id: int) -> Json:
    customer = simulator.shopify.customer(shop.domain, customer_id)
    address = customer.address
    return {
        "id": gid("Customer", customer.id),
        "firstName": address.first_name,
        "lastName": address.last_name,
        "displayName": f"{address.first_name} {address.last_name}",
        "creationDate": customer.created_at.isoformat(),
        "emailAddress": {
            "emailAddress": customer.email,
            "marketingState": "SUBSCRIBED" if customer.accepts_marketing else "NOT_SUBSCRIBED",
        },
        "phoneNumber": None,
        "tags": [tag.strip() for tag in customer.tags.split(",") if tag.strip()],
        "marketCurrencyCode": shop.currency,
        "orders": lambda **arguments: _page(_orders(simulator, shop, customer), **arguments),
    }


def _orders(simulator: Simulator, shop: Shop, customer: Customer) -> list[Order]:
    """Return a customer's orders, the oldest first."""
    return simulator.shopify.orders_of(shop.domain, customer.id)


def _page(
    orders: Sequence[Order],
    *,
    first: int | None = None,
    after: str | None = None,
    reverse: bool = False,
    **unknown: object,
) -> Json:
    """Return a page of orders; cursors are order ids."""
    # The schema fills in the default of `sortKey`: the order is that of ids, which is that of time.
    refused = [name for name, value in unknown.items() if value is not None and (name, value) != ("sortKey", "ID")]
    if refused:
        raise GraphQLError(f"Customer.orders: the argument {refused[0]} is not simulated")
    if first is None or not 0 < first <= MOST_ON_A_PAGE:
        raise GraphQLError(f"Customer.orders: first must be from 1 to {MOST_ON_A_PAGE}")
    found = list(reversed(orders)) if reverse else list(orders)
    ids = [str(order.id) for order in found]
    if after is not None and after not in ids:
        raise GraphQLError("Customer.orders: the cursor is unknown")
    begin = ids.index(after) + 1 if after is not None else 0
    shown = found[begin : begin + first]
    nodes = [_order(order) for order in shown]
    return {
        "nodes": nodes,
        "edges": [{"cursor": str(order.id), "node": node} for order, node in zip(shown, nodes, strict=True)],
        "pageInfo": {
            "hasNextPage": begin + first < len(found),
            "hasPreviousPage": begin > 0,
            "startCursor": str(shown[0].id) if shown else None,
            "endCursor": str(shown[-1].id) if shown else None,
        },
    }


def _order(order: Order) -> Json:
    currency = order.exchange.presentment
    totals = current_totals(order)

    def money(amount: Any) -> Json:  # noqa: ANN401 - a Money's presentment amount
        return {"amount": text(amount.presentment, currency), "currencyCode": currency}

    return {
        "id": gid("Order", order.id),
        "name": order.name,
        "number": order.number,
        "email": order.email,
        "createdAt": order.created_at.isoformat(),
        "processedAt": order.created_at.isoformat(),
        "updatedAt": order.updated_at.isoformat(),
        "cancelledAt": order.cancelled_at.isoformat() if order.cancelled_at else None,
        "currencyCode": currency,
        "edited": bool(order.edits),
        "financialStatus": financial_status(order).value.upper(),
        "fulfillmentStatus": "UNFULFILLED",
        "subtotal": money(totals.subtotal),
        "totalPrice": money(totals.total),
        "totalShipping": money(original_totals(order).shipping),
        "totalTax": money(totals.tax),
        "totalRefunded": money(paid_back(order)),
    }


def _name(shop: Shop) -> str:
    return shop.domain.partition(".")[0]
