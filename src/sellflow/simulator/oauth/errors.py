"""What the OAuth endpoints of the simulated Shopify refuse, in Shopify's words."""

from __future__ import annotations

from sellflow.errors import SellflowError


class OAuthRefusedError(SellflowError):
    """A request to an OAuth endpoint is refused: `error` and the message go into the answer's body."""

    code = "simulator.oauth_refused"

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


# The texts are those that Shopify was seen to answer with; its documentation names few of them.
def unknown_application(client_id: str) -> OAuthRefusedError:
    """Refuse a client id that no app has."""
    return OAuthRefusedError(
        "application_cannot_be_found", f"Could not find Shopify API application with api_key {client_id}"
    )


def invalid_client() -> OAuthRefusedError:
    """Refuse a wrong secret, or an app that was uninstalled."""
    return OAuthRefusedError("invalid_client", "The client credentials are invalid.", status=401)


def invalid_subject_token() -> OAuthRefusedError:
    """Refuse a session token, or a token to migrate, that does not hold."""
    return OAuthRefusedError(
        "invalid_subject_token", "Token exchange cannot be performed due to an invalid subject token."
    )


def inactive_refresh_token() -> OAuthRefusedError:
    """Refuse a refresh token that is unknown, revoked, or retired by the use of its replacement."""
    return OAuthRefusedError("invalid_request", "This request requires an active refresh_token", status=401)


def expired_refresh_token() -> OAuthRefusedError:
    """Refuse a refresh token past its ninety days; `invalid_grant` is the code that Shopify's libraries know."""
    return OAuthRefusedError("invalid_grant", "The refresh token has expired.")


def unknown_code() -> OAuthRefusedError:
    """Refuse an authorization code."""
    return OAuthRefusedError("invalid_request", "The authorization code was not found or was already used")


def app_not_installed() -> OAuthRefusedError:
    """Refuse client credentials in a shop that does not have the app."""
    return OAuthRefusedError("app_not_installed", "The application is not installed on this shop.")


def missing(parameter: str) -> OAuthRefusedError:
    """Refuse a request that lacks a parameter."""
    return OAuthRefusedError("invalid_request", f"Missing required parameter: {parameter}")


def unsupported_grant(grant: str) -> OAuthRefusedError:
    """Refuse a grant type that does not exist."""
    return OAuthRefusedError("unsupported_grant_type", f"The grant type {grant!r} is not supported.")
