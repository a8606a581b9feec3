"""The one thing that must be known of a shop before its row can be made: its currency.

Asked directly, with the token that was just granted: the Admin client works for shops that have a row.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sellflow.shopify.tokens.errors import TokenDelayedError

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 3
TIMEOUT = 6.0
FIRST_PAUSE = 0.3
_QUERY = '{"query":"{ shop { currencyCode } }"}'


class _Shop(BaseModel):
    currency: str = Field(alias="currencyCode", pattern="^[A-Z]{3}$")


class _Data(BaseModel):
    shop: _Shop


class _Answer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    data: _Data


async def read_currency(*, domain: str, base_url: str, token: str, api_version: str) -> str:
    """Return the code of a shop's currency, such as USD.

    Raises
    ------
    TokenDelayedError
        If the shop's Admin API gives no answer; the installation is tried again when the app is next opened.
    """
    import httpx  # noqa: PLC0415 - needed once in the life of a shop

    url = f"{base_url}/admin/api/{api_version}/graphql.json"
    headers = {"x-shopify-access-token": token, "content-type": "application/json"}
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, headers=headers) as client:
        for attempt in range(1, ATTEMPTS + 1):
            found, reason = await _ask(client, url)
            if found:
                return found
            if attempt < ATTEMPTS:
                await asyncio.sleep(FIRST_PAUSE * 2**attempt * random.random())  # noqa: S311 - jitter, not a secret
    raise TokenDelayedError(f"{domain}: its Admin API does not tell the shop's currency: {reason}", seconds=FIRST_PAUSE)


async def _ask(client: httpx.AsyncClient, url: str) -> tuple[str, str]:
    """Return the currency, or nothing and why."""
    import httpx  # noqa: PLC0415

    try:
        answer = await client.post(url, content=_QUERY)
        if answer.status_code != httpx.codes.OK:
            return "", f"it answered {answer.status_code}"
        return _Answer.model_validate_json(answer.content).data.shop.currency, ""
    except httpx.HTTPError as error:
        return "", type(error).__name__
    except ValidationError:
        return "", "its answer holds no currency"
