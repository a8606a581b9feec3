"""Shopify's token endpoint: every way of asking it for an offline token.

Sources: https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens and, for asking again with the
same refresh token, https://shopify.dev/changelog/more-resilient-refreshes-for-expiring-offline-access-tokens.
Nothing that is sent or answered reaches an error or a log: all of it is secret.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sellflow import __version__
from sellflow.shopify.tokens.errors import CredentialsRefusedError, GrantRefusedError, TokenDelayedError
from sellflow.shopify.tokens.models import Client, Grant, TokenKind

if TYPE_CHECKING:
    import httpx

OFFLINE = "urn:shopify:params:oauth:token-type:offline-access-token"
SESSION_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a name of RFC 8693
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

#: Seconds for one request, and for all attempts at one answer together.
TIMEOUT = 6.0
LONGEST = 20.0
ATTEMPTS = 3
FIRST_PAUSE = 0.25
#: Seconds that Shopify may ask to be left alone for and still be waited for here.
LONGEST_WAIT = 5.0

#: What OAuth calls an app that is not known, or whose secret is another.
_BAD_CREDENTIALS = ("invalid_client", "unauthorized_client", "application_cannot_be_found")


class _Answer(BaseModel):
    """A token, as the endpoint gives it."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    access_token: str = Field(min_length=1, max_length=4096)
    scope: str = ""
    expires_in: float | None = Field(default=None, gt=0, lt=10 * 365 * 86_400)
    refresh_token: str | None = Field(default=None, min_length=1, max_length=4096)
    refresh_token_expires_in: float | None = Field(default=None, gt=0, lt=10 * 365 * 86_400)


class _Refusal(BaseModel):
    """Why there is none."""

    error: str = ""
    error_description: str = ""


class _NoAnswerError(Exception):
    """What was asked may have happened or not; asking the same again is safe."""

    def __init__(self, reason: str, *, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class TokenEndpoint:
    """Asks for tokens, on connections that are kept for the next shop of the same Shopify."""

    def __init__(self, *, timeout: float = TIMEOUT, longest: float = LONGEST) -> None:
        self._timeout = timeout
        self._longest = longest
        self._connections: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._connections:
            await self._connections.aclose()
            self._connections = None

    async def refresh(self, client: Client, refresh_token: str) -> Grant:
        """Return the pair that replaces one; raises as `exchange` does.

        Safe to ask again with the same token, whatever became of the first time: Shopify gives the same pair out
        until its refresh token is used.
        """
        return await self._ask(client, {"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def exchange(self, client: Client, session_token: str) -> Grant:
        """Return a new pair for a session token; every pair before it ends.

        Raises
        ------
        CredentialsRefusedError
            If the app is not known there, or its secret is another.
        GrantRefusedError
            If what was sent is refused.
        TokenDelayedError
            If there was no answer that settles it.
        """
        return await self._ask(client, _exchange(session_token, SESSION_TOKEN))

    async def migrate(self, client: Client, permanent_token: str) -> Grant:
        """Return a pair for a token without expiry, which ends by it for good; raises as `exchange` does."""
        return await self._ask(client, _exchange(permanent_token, OFFLINE))

    async def redeem(self, client: Client, code: str) -> Grant:
        """Return a pair for an authorization code; raises as `exchange` does."""
        return await self._ask(client, {"code": code, "expiring": "1"})

    async def claim(self, client: Client) -> Grant:
        """Return a token for the app's own credentials; raises as `exchange` does."""
        return await self._ask(client, {"grant_type": "client_credentials"}, kind=TokenKind.CLIENT_CREDENTIALS)

    async def _ask(self, client: Client, request: Mapping[str, str], kind: TokenKind | None = None) -> Grant:
        body = {"client_id": client.client_id, "client_secret": client.client_secret, **request}
        url = f"{client.base_url}/admin/oauth/access_token"
        try:
            async with asyncio.timeout(self._longest):
                return await self._ask_until_answered(client.domain, url, body, kind)
        except TimeoutError:
            raise TokenDelayedError(f"{client.domain}: Shopify gave no token in time", seconds=FIRST_PAUSE) from None

    async def _ask_until_answered(
        self, domain: str, url: str, body: Mapping[str, str], kind: TokenKind | None
    ) -> Grant:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._ask_once(domain, url, body, kind)
            except _NoAnswerError as error:
                if attempt == ATTEMPTS or error.wait > LONGEST_WAIT:
                    raise TokenDelayedError(f"{domain}: no token: {error}", seconds=error.wait) from None
                pause = FIRST_PAUSE * 2**attempt * random.random()  # noqa: S311 - jitter, not a secret
                await asyncio.sleep(max(error.wait, pause))
        raise AssertionError("the last attempt returns or raises")

    async def _ask_once(self, domain: str, url: str, body: Mapping[str, str], kind: TokenKind | None) -> Grant:
        import httpx  # noqa: PLC0415 - most processes never ask for a token

        if self._connections is None:
            headers = {"user-agent": f"Sellflow/{__version__}", "accept": "application/json"}
            # A proxy or credentials that the environment names have no business with an app's secret.
            self._connections = httpx.AsyncClient(timeout=self._timeout, trust_env=False, headers=headers)
        try:
            answer = await self._connections.post(url, json=dict(body))
        except httpx.HTTPError as error:
            raise _NoAnswerError(type(error).__name__) from None
        return _read(domain, answer.status_code, answer.content, answer.headers.get("retry-after", ""), kind)


def _exchange(subject: str, subject_type: str) -> dict[str, str]:
    return {
        "grant_type": EXCHANGE,
        "subject_token": subject,
        "subject_token_type": subject_type,
        "requested_token_type": OFFLINE,
        "expiring": "1",
    }


def _read(domain: str, status: int, content: bytes, retry_after: str, kind: TokenKind | None) -> Grant:
    """Return what an answer grants, or raise what it means; its text is never repeated."""
    if status == 200:
        return _grant(content, kind)
    if status == 429 or status >= 500:
        raise _NoAnswerError(f"Shopify answered {status}", wait=_seconds(retry_after))
    refusal = _refusal(content)
    if not refusal.error or status < 400:
        raise _NoAnswerError(f"Shopify answered {status} without saying why")
    told = f"{domain}: Shopify refused with {refusal.error!r} ({refusal.error_description or status})"
    if refusal.error in _BAD_CREDENTIALS:
        raise CredentialsRefusedError(
            f"{told}: the app's client id or secret is not the one in its dashboard, or the shop removed the app",
            error=refusal.error,
        )
    raise GrantRefusedError(told, error=refusal.error)


def _grant(content: bytes, kind: TokenKind | None) -> Grant:
    try:
        answer = _Answer.model_validate_json(content)
    except ValidationError:
        raise _NoAnswerError("Shopify's answer holds no token") from None
    lives_on = TokenKind.EXPIRING if answer.refresh_token else TokenKind.PERMANENT
    return Grant(
        kind=kind or lives_on,
        access_token=answer.access_token,
        scopes=tuple(scope for scope in answer.scope.replace(" ", ",").split(",") if scope),
        expires_in=answer.expires_in,
        refresh_token=answer.refresh_token,
        refresh_expires_in=answer.refresh_token_expires_in,
    )


def _refusal(content: bytes) -> _Refusal:
    try:
        refusal = _Refusal.model_validate_json(content)
    except ValidationError:
        return _Refusal()
    return _Refusal(error=refusal.error[:60], error_description=refusal.error_description[:200])


def _seconds(retry_after: str) -> float:
    try:
        return min(max(float(retry_after), 0.0), 3600.0)
    except ValueError:
        return 0.0
