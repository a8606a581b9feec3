"""Small JSON documents from addresses that a merchant's settings lead to, over the guarded connection."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import httpcore
import orjson

from sellflow.errors import SellflowError
from sellflow.queue.outgoing.addresses import AddressRefusedError, Allowance
from sellflow.queue.outgoing.http_target import guarded, resolve, trusted

LARGEST_DOCUMENT = 65_536


class FetchError(SellflowError):
    """A document could not be fetched, or is none."""

    code = "fetch.failed"


async def fetch_json(
    url: str,
    *,
    allowance: Allowance,
    timeout: float,  # noqa: ASYNC109 - one limit for all of it, whatever the library's phases are
    headers: dict[str, str] | None = None,
    content: bytes | None = None,
) -> tuple[int, Any]:
    """Return the status and the JSON of an address: of a GET, or of a POST where there is content.

    Redirects are not followed; more than `LARGEST_DOCUMENT` bytes are not read.

    Raises
    ------
    FetchError
        If there was no answer in time, no JSON in it, or the address is not public.
    """
    target = httpcore.URL(url)
    backend = guarded(allowance, resolve, encrypted=target.scheme == b"https", seconds=timeout)
    sent = {"accept": "application/json", "user-agent": "Sellflow"} | (headers or {})
    try:
        async with (
            asyncio.timeout(timeout),
            httpcore.AsyncHTTPConnection(target.origin, trusted(), network_backend=backend) as connection,
            connection.stream(
                "GET" if content is None else "POST", target, headers=list(sent.items()), content=content
            ) as response,
        ):
            body = await _read(response)
            return response.status, orjson.loads(body)
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise FetchError(f"{target.host.decode()} did not answer within {timeout:g} s") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError, AddressRefusedError) as error:
        raise FetchError(f"{target.host.decode()} cannot be reached") from error
    except orjson.JSONDecodeError as error:
        raise FetchError(f"{target.host.decode()} answered no JSON") from error


async def _read(response: httpcore.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > LARGEST_DOCUMENT:
            raise FetchError(f"an answer of more than {LARGEST_DOCUMENT} bytes")
    return body
