"""Webhooks as Shopify sends them, and what became of them in the database."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx
import orjson

from sellflow.postgres.database import SessionConnection
from sellflow.shopify.signatures import sign_webhook
from tests.conftest import SECRET

_numbers = count(1)


class Shopify:
    """Signs deliveries for one app and posts them."""

    def __init__(self, client: httpx.AsyncClient, *, app: str = "acme", secret: str = SECRET) -> None:
        self._client = client
        self._path = f"/webhooks/shopify/{app}"
        self._secret = secret

    def headers(
        self,
        body: bytes,
        *,
        topic: str = "orders/paid",
        shop: str = "acme.myshopify.com",
        webhook_id: str | None = None,
        secret: str | None = None,
    ) -> dict[str, str]:
        """The headers of a right delivery."""
        return {
            "x-shopify-hmac-sha256": sign_webhook(body, secret or self._secret),
            "x-shopify-topic": topic,
            "x-shopify-shop-domain": shop,
            "x-shopify-webhook-id": webhook_id or f"webhook-{next(_numbers)}",
            "content-type": "application/json",
        }

    async def deliver(self, body: bytes, **claims: Any) -> httpx.Response:  # noqa: ANN401 - passed on to `headers`
        """Deliver `body`; `claims` are those of `headers`."""
        return await self.send(body, self.headers(body, **claims))

    async def send(self, body: Any, headers: dict[str, str]) -> httpx.Response:  # noqa: ANN401 - whatever httpx sends
        """Post a body under headers of the caller's choice."""
        return await self._client.post(self._path, content=body, headers=headers)


def order_body(order_id: int = 1001, **fields: object) -> bytes:
    """A small paid order of 25.00 that a customer placed."""
    order = {
        "id": order_id,
        "name": f"#{order_id}",
        "customer": {"id": 7},
        "currency": "USD",
        "subtotal_price": "25.00",
        "financial_status": "paid",
        "created_at": "2026-11-22T09:00:00Z",
        "updated_at": "2026-11-22T09:00:00Z",
    }
    return orjson.dumps(order | fields)


async def counts(owner: SessionConnection) -> tuple[int, int, int]:
    """How many receipts, events and messages for loyalty there are."""
    row = await owner.fetchrow(
        """
        SELECT (SELECT count(*) FROM receipts) AS receipts, (SELECT count(*) FROM events) AS events,
               (SELECT count(*) FROM pgmq.q_loyalty) AS messages
        """
    )
    assert row is not None
    return row["receipts"], row["events"], row["messages"]
