"""POSTs to the Admin API: kept connections, limits on time and size, no redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sellflow import __version__
from sellflow.shopify.admin.errors import NoAnswerError, NoConnectionError
from sellflow.shopify.tokens.models import Access

if TYPE_CHECKING:
    import httpx

CONNECT_WITHIN = 5.0
#: A connection that nobody used for so many seconds is not used again: Shopify may be closing it.
KEEP_ALIVE = 4.0
MOST_CONNECTIONS = 100
#: Bytes of an answer. A query may cost 1,000 points, so no proper one comes near.
LONGEST_ANSWER = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever it is."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """HTTP connections to Shopify, of one process."""

    def __init__(self, *, api_version: str, timeout: float) -> None:
        self._api_version = api_version
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def post(self, access: Access, body: bytes) -> Answer:
        """Send a query to a shop and return the answer.

        Raises
        ------
        NoConnectionError
            If nothing was sent.
        NoAnswerError
            If nobody knows whether it arrived.
        """
        url = f"{access.base_url}/admin/api/{self._api_version}/graphql.json"
        headers = {"content-type": "application/json", "x-shopify-access-token": access.token}
        async with self.asking("POST", url, headers=headers, content=body) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > LONGEST_ANSWER:
                    raise NoAnswerError(f"the answer is longer than {LONGEST_ANSWER} bytes")
            return Answer(response.status_code, response.headers, bytes(content))

    @asynccontextmanager
    async def asking(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        is_file: bool = False,
    ) -> AsyncIterator[httpx.Response]:
        """Yield a response whose body is still to be read, within the same limit of time; of a file, each part is.

        Raises
        ------
        NoConnectionError, NoAnswerError
            As `post` does, also while the body is read.
        """
        import httpx  # noqa: PLC0415 - of all processes, only those that call Shopify need it

        try:
            async with (
                asyncio.timeout(None if is_file else self._timeout),
                self._connections().stream(method, url, headers=headers, content=content) as response,
            ):
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise NoConnectionError(f"Shopify cannot be reached: {error or type(error).__name__}") from error
        except TimeoutError as error:
            raise NoAnswerError(f"Shopify did not answer within {self._timeout:g} s") from error
        except httpx.HTTPError as error:
            raise NoAnswerError(f"the connection broke: {error or type(error).__name__}") from error

    def _connections(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415

        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=ssl.create_default_context(),
                timeout=httpx.Timeout(self._timeout, connect=min(CONNECT_WITHIN, self._timeout)),
                limits=httpx.Limits(max_connections=MOST_CONNECTIONS, keepalive_expiry=KEEP_ALIVE),
                headers={"user-agent": f"Sellflow/{__version__}", "accept": "application/json"},
                follow_redirects=False,
                trust_env=False,
            )
        return self._client
