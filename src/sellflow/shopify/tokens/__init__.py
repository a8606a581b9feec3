"""Tokens for the Admin API: obtained, kept sealed, and refreshed ahead of time by one process at a time."""

from sellflow.shopify.tokens.access_tokens import AccessTokens
from sellflow.shopify.tokens.errors import NotInstalledError, ReinstallNeededError, TokenDelayedError
from sellflow.shopify.tokens.models import Access, Grant, TokenKind

__all__ = [
    "Access",
    "AccessTokens",
    "Grant",
    "NotInstalledError",
    "ReinstallNeededError",
    "TokenDelayedError",
    "TokenKind",
]
