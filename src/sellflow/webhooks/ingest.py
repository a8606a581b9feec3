"""POST /webhooks/shopify/{app}: plain ASGI, because every microsecond here is paid for each order of each shop.

The order of checks: path, method, size, headers, signature. Whatever passes is stored whole and answered with 200
after its commit, never before; what becomes of it is decided later, by its handlers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from prometheus_client import Counter

from sellflow.edge.problems import Problem
from sellflow.errors import DatabaseUnavailableError
from sellflow.settings import Settings
from sellflow.shopify.signatures import is_signed
from sellflow.shopify.webhook_headers import MalformedHeadersError, WebhookHeaders, read_webhook_headers
from sellflow.shops.directory import AppDirectory
from sellflow.shops.models import App
from sellflow.webhooks.group_commit import GroupCommit, LateError, WaitingRoomFullError
from sellflow.webhooks.keys import event_key
from sellflow.webhooks.store import Delivery, RefusedByDatabaseError

log = structlog.get_logger(__name__)

PATH = "/webhooks/shopify/"
#: Above this many bytes, hashing and parsing go to a thread: they would hold up everybody else.
LARGE_BODY = 262_144
RETRY_AFTER = ("retry-after", "5")

refused_total = Counter(
    "sellflow_webhooks_refused_total",
    "Deliveries that were not stored, by the status they were answered with.",
    ["status"],
)


Scope = dict[str, Any]

_ACCEPTED_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
_ACCEPTED_BODY = {"type": "http.response.body", "body": b""}


class ClientGoneError(Exception):
    """The sender closed the connection before its body was complete."""


class WebhookIngest:
    """The ASGI application below `PATH`."""

    def __init__(self, *, directory: AppDirectory, group_commit: GroupCommit, settings: Settings) -> None:
        self._directory = directory
        self._group_commit = group_commit
        self._max_body = settings.webhook_max_body_bytes
        self._deadline = settings.webhook_deadline

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own callables
        """Answer one delivery."""
        try:
            await self._accept(scope, receive)
        except ClientGoneError:
            return
        except Problem as problem:
            refused_total.labels(str(problem.status)).inc()
            await problem.response()(scope, receive, send)
            return
        await send(_ACCEPTED_START)
        await send(_ACCEPTED_BODY)

    async def _accept(self, scope: Scope, receive: Any) -> None:  # noqa: ANN401
        handle = scope["path"][len(PATH) :]
        app = self._directory.look(handle) or await self._find_app(handle)
        if scope["method"] != "POST":
            raise Problem(405, "http.method_not_allowed", "Webhooks are sent with POST.", headers=[("allow", "POST")])
        raw_headers = dict(scope["headers"])
        body = await self._read_body(raw_headers, receive)
        try:
            headers = read_webhook_headers(raw_headers)
        except MalformedHeadersError as error:
            raise Problem(400, error.code, f"{error}.") from error
        if len(body) > LARGE_BODY:
            is_genuine = await asyncio.to_thread(is_signed, body, headers.signature, app.secrets)
        else:
            is_genuine = is_signed(body, headers.signature, app.secrets)
        if not is_genuine:
            app = await self._authenticate_again(app, body, headers)
        await self._store(await _delivery(app, body, headers))

    async def _find_app(self, handle: str) -> App:
        try:
            app = await self._directory.find(handle) or await self._directory.find_again(handle, None)
        except DatabaseUnavailableError as error:
            raise Problem(503, error.code, "The database is away; send it again.", headers=[RETRY_AFTER]) from error
        if app is None:
            raise Problem(404, "webhook.unknown_app", "No app has this webhook path; `sellflow apps list` shows them.")
        return app

    async def _read_body(self, headers: dict[bytes, bytes], receive: Any) -> bytes:  # noqa: ANN401
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._max_body:
            raise self._too_large()
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            body = await self._read_rest(body, receive)
        if len(body) > self._max_body:
            raise self._too_large()
        return body

    async def _read_rest(self, body: bytes, receive: Any) -> bytes:  # noqa: ANN401
        """Read a body that comes in parts; who sends it too slowly is told so, and too much is not kept."""
        chunks, size, more = [body], len(body), True
        try:
            async with asyncio.timeout(self._deadline):
                while more and size <= self._max_body:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    more = message.get("more_body", False)
        except TimeoutError as error:
            detail = f"The body was not complete after {self._deadline:g} seconds."
            raise Problem(408, "webhook.slow_body", detail, headers=[("connection", "close")]) from error
        return b"".join(chunks)

    def _too_large(self) -> Problem:
        detail = f"A delivery may hold {self._max_body} bytes (SELLFLOW_WEBHOOK_MAX_BODY_BYTES)."
        return Problem(413, "webhook.too_large", detail, headers=[("connection", "close")])

    async def _authenticate_again(self, app: App, body: bytes, headers: WebhookHeaders) -> App:
        """Return the app if its secret was rotated a moment ago and the new one signed the body."""
        rotated = await self._directory.find_again(app.handle, app)
        if rotated and is_signed(body, headers.signature, rotated.secrets):
            return rotated
        log.warning("webhooks.bad_signature", app=app.handle, shop=headers.shop_domain, topic=headers.topic)
        detail = "The signature is not that of this body under the app's client secret."
        raise Problem(401, "webhook.bad_signature", detail)

    async def _store(self, delivery: Delivery) -> None:
        try:
            await self._group_commit.commit(delivery)
        except (WaitingRoomFullError, LateError, DatabaseUnavailableError) as error:
            log.warning("webhooks.shed", code=error.code, error=str(error))
            raise Problem(503, error.code, "It could not be stored; send it again.", headers=[RETRY_AFTER]) from error
        except RefusedByDatabaseError as error:
            log.exception("webhooks.refused", webhook_id=delivery.webhook_id, topic=delivery.topic)
            raise Problem(500, error.code, "The delivery could not be stored; the log says why.") from error


async def _delivery(app: App, body: bytes, headers: WebhookHeaders) -> Delivery:
    large = len(body) > LARGE_BODY
    key = await asyncio.to_thread(event_key, headers.topic, body) if large else event_key(headers.topic, body)
    return Delivery(
        app_id=app.app_id,
        shop_domain=headers.shop_domain,
        webhook_id=headers.webhook_id,
        topic="shopify." + headers.topic.replace("/", "."),
        key=key,
        triggered_at=headers.triggered_at,
        payload=body,
    )
