"""The Standard Webhooks signature scheme, for the side that signs (standardwebhooks.com, specification 1.0)."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime

SECRET_BYTES = 32


def new_secret() -> str:
    """Return a secret to share with a receiver: whsec_ and 32 random bytes."""
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(message_id: str, body: bytes, *, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """Return the headers of a delivery, signed with each of its secrets; `now` is in UTC.

    While a secret is rotated there are two, and a receiver that knows either finds its signature.
    """
    from standardwebhooks import Webhook  # noqa: PLC0415 - of all processes, only a worker that delivers needs it

    text = body.decode()
    signatures = [Webhook(secret).sign(message_id, now, text) for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": "Sellflow",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
