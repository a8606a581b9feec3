"""Reads orders, refunds and customers through the Admin API, whole, however many pages that takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from pydantic import BaseModel

from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.pages import read_pages
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.customers import CUSTOMERS, Customer
from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import PageInfo
from sellflow.shopify.documents.orders import (
    ORDER_BY_ID,
    ORDER_BY_ID_SIZES,
    ORDER_REVISIONS,
    ORDER_REVISIONS_SIZES,
    REFUND_BY_ID,
    REFUND_BY_ID_SIZES,
    LineItem,
    Order,
    OrderRevision,
    Refund,
    RefundLineItem,
)
from sellflow.shops.reconciliation.rest_shapes import Json, order_resource, refund_resource

T = TypeVar("T", bound=BaseModel)

#: Customers a page: about 400 of the 1,000 points that one query may cost.
CUSTOMERS_SIZES = {"first": 100}


class Reader:
    """What reconciliation and imports ask Shopify, behind whatever a customer or a merchant waits for."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    async def order_revisions(self, shop_id: int, search: str) -> AsyncIterator[tuple[OrderRevision, ...]]:
        """Yield pages of how far orders have come, the one updated longest ago first."""
        variables = {**ORDER_REVISIONS_SIZES, "query": search, "sortKey": "UPDATED_AT"}
        async for leaf in read_pages(self._client, shop_id, ORDER_REVISIONS, variables, lambda found: found.orders):
            if leaf.nodes:
                yield tuple([await self._with_all_refunds(shop_id, order) for order in leaf.nodes])

    async def _with_all_refunds(self, shop_id: int, order: OrderRevision) -> OrderRevision:
        """Return an order with more refunds than a listing names with all of them."""
        if len(order.refunds) < ORDER_REVISIONS_SIZES["refunds"]:
            return order
        found = await self._order(shop_id, order.number, lines=1)
        return order.model_copy(update={"refunds": found.refunds}) if found else order

    async def customers(self, shop_id: int, search: str) -> AsyncIterator[tuple[Customer, ...]]:
        """Yield pages of customers, the one updated longest ago first."""
        variables = {**CUSTOMERS_SIZES, "query": search, "sortKey": "UPDATED_AT"}
        async for leaf in read_pages(self._client, shop_id, CUSTOMERS, variables, lambda found: found.customers):
            if leaf.nodes:
                yield leaf.nodes

    async def order(self, shop_id: int, order_id: int) -> Json | None:
        """Return an order as a REST resource with all its lines and refunds; None where it was deleted."""
        after: str | None = None
        lines: list[LineItem] = []
        while True:
            order = await self._order(shop_id, order_id, lines=ORDER_BY_ID_SIZES["lines"], after=after)
            if order is None:
                return None
            lines += order.line_items.nodes
            if (after := _next(order.line_items.page_info)) is None:
                break
        refunds = [await self._refund(shop_id, refund.number) for refund in order.refunds]
        return order_resource(order, lines, [refund for refund in refunds if refund])

    async def _order(self, shop_id: int, order_id: int, *, lines: int, after: str | None = None) -> Order | None:
        variables = {"id": f"gid://shopify/Order/{order_id}", "lines": lines, "after": after}
        return (await self._fetch(shop_id, ORDER_BY_ID, variables)).order

    async def refund(self, shop_id: int, refund_id: int) -> Json | None:
        """Return a refund as a REST resource; None where there is none."""
        found = await self._refund(shop_id, refund_id)
        return refund_resource(*found) if found else None

    async def _refund(self, shop_id: int, refund_id: int) -> tuple[Refund, list[RefundLineItem]] | None:
        after: str | None = None
        lines: list[RefundLineItem] = []
        while True:
            variables = {"id": f"gid://shopify/Refund/{refund_id}", **REFUND_BY_ID_SIZES, "after": after}
            refund = (await self._fetch(shop_id, REFUND_BY_ID, variables)).refund
            if refund is None:
                return None
            lines += refund.refund_line_items.nodes
            if (after := _next(refund.refund_line_items.page_info)) is None:
                return refund, lines

    async def _fetch(self, shop_id: int, document: Document[T], variables: dict[str, Any]) -> T:
        return await self._client.fetch(shop_id, document, variables, urgency=Urgency.BACKGROUND)


def _next(info: PageInfo) -> str | None:
    """Return where the next page begins, None after the last."""
    return info.end_cursor if info.has_next_page else None
