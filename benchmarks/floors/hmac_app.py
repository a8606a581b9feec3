"""A floor: plain ASGI that only checks the signature and stores nothing."""

from __future__ import annotations

import hmac
import os
from base64 import b64encode
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]  # Any: ASGI's own untyped messages
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

KEY = os.environ.get("SECRET", "").encode()
NO_BODY = [(b"content-length", b"0")]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer 200 to what is signed with the secret, and to any GET; 401 to the rest."""
    if scope["type"] != "http":
        return
    body = await _read(receive)
    accepted = scope["method"] == "GET" or is_signed(body, _signature(scope))
    await send({"type": "http.response.start", "status": 200 if accepted else 401, "headers": NO_BODY})
    await send({"type": "http.response.body", "body": b""})


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def _signature(scope: Message) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-shopify-hmac-sha256":
            return bytes(value)
    return b""


def is_signed(body: bytes, signature: bytes) -> bool:
    """Say whether the signature is the base64 HMAC-SHA256 of the body."""
    return hmac.compare_digest(b64encode(hmac.digest(KEY, body, "sha256")), signature)
