"""The Admin API of the simulator, asked in this process and without limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from sellflow.shopify.documents.document import Document

T = TypeVar("T", bound=BaseModel)


class PlainClient:
    """Asks as the product's client does, but that nothing is throttled or tried again."""

    def __init__(self, api: httpx.AsyncClient, domain: str, token: str) -> None:
        self._api = api
        self._path = f"/shops/{domain}/admin/api/2026-10/graphql.json"
        self._headers = {"X-Shopify-Access-Token": token}

    async def fetch(
        self,
        shop_id: int,
        document: Document[T],
        variables: Mapping[str, object] | None = None,
        *,
        urgency: object = None,
    ) -> T:
        body = {"query": document.text, "variables": dict(variables or {})}
        answer = (await self._api.post(self._path, json=body, headers=self._headers)).json()
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return document.model.model_validate(data)
