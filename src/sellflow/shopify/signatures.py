"""Webhook signatures.

Shopify signs the raw body with HMAC-SHA256 under the app's client secret and sends it base64-encoded
(https://shopify.dev/docs/apps/build/webhooks/verify-deliveries). While a secret is rotated, deliveries may still
carry a signature by the previous one.

Nothing else may ever be signed with the app's secret: a signature that a browser can see, such as a cookie's,
could be replayed as that of a webhook whose body is the cookie's value.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Sequence


def sign_webhook(body: bytes, secret: str) -> str:
    """Return the value of the HMAC header for `body`."""
    return b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def is_signed(body: bytes, signature: str, secrets: Sequence[str]) -> bool:
    """Say whether `signature` is that of `body` under one of `secrets`, comparing in constant time."""
    # The text is compared, not what it decodes to: base64 has several spellings of the same bytes.
    given = signature.encode("utf-8", "replace")
    # Every secret is tried, so that the time taken does not tell which one fitted.
    verdicts = [hmac.compare_digest(given, sign_webhook(body, secret).encode()) for secret in secrets]
    return any(verdicts)
