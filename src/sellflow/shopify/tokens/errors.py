"""Why there is no token."""

from __future__ import annotations

from sellflow.errors import SellflowError, SkippedError, TryLaterError


class NotInstalledError(SkippedError):
    """The shop removed the app, or never finished installing it: there is nothing to be done for it at Shopify."""

    code = "shopify.not_installed"


class ReinstallNeededError(SellflowError):
    """Shopify refuses every token that we have of a shop; opening the app in its admin gives us another."""

    code = "shopify.reinstall_needed"


class TokenDelayedError(TryLaterError):
    """No token could be had just now, for no fault of those that we have."""

    code = "shopify.token_delayed"


class GrantRefusedError(SellflowError):
    """Shopify refuses what a token was asked for with: asking again with the same cannot help."""

    code = "shopify.grant_refused"

    def __init__(self, message: str, *, error: str) -> None:
        super().__init__(message)
        #: OAuth's own word for it, such as invalid_grant.
        self.error = error


class CredentialsRefusedError(GrantRefusedError):
    """Shopify does not know the app's client id, or its secret is another by now."""

    code = "shopify.credentials_refused"
