"""The token endpoint's grants: one function each, from a request's parameters to the answer's body."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sellflow.simulator.oauth import session_tokens
from sellflow.simulator.oauth.errors import (
    OAuthRefusedError,
    app_not_installed,
    invalid_client,
    invalid_subject_token,
    missing,
    unsupported_grant,
)
from sellflow.simulator.oauth.models import AccessToken, Application, Installation, RefreshToken, Staff
from sellflow.simulator.oauth.service import OAuth
from sellflow.simulator.oauth.staff import owner_of
from sellflow.simulator.payload_parts import Json

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
OFFLINE_TOKEN = "urn:shopify:params:oauth:token-type:offline-access-token"
ONLINE_TOKEN = "urn:shopify:params:oauth:token-type:online-access-token"

Parameters = Mapping[str, str]


def grant_of(parameters: Parameters) -> str:
    """Return the grant that a request asks for; one with a code and no `grant_type` is of the code grant."""
    return parameters.get("grant_type") or ("authorization_code" if "code" in parameters else "")


def answer(oauth: OAuth, domain: str, parameters: Parameters) -> Json:
    """Return the body of the token endpoint's answer.

    Raises
    ------
    OAuthRefusedError
        If the request is refused.
    """
    app = oauth.authenticate(parameters.get("client_id", ""), parameters.get("client_secret", ""))
    grant = grant_of(parameters)
    if not grant:
        raise missing("grant_type")
    if grant not in GRANTS:
        raise unsupported_grant(grant)
    return GRANTS[grant](oauth, domain, app, parameters)


def exchange(oauth: OAuth, domain: str, app: Application, parameters: Parameters) -> Json:
    """Exchange a session token for an access token, or a token without expiry for a pair."""
    kind = parameters.get("subject_token_type")
    if kind == OFFLINE_TOKEN:
        return migrate(oauth, domain, app, parameters)
    if kind != ID_TOKEN:
        raise OAuthRefusedError("invalid_request", f"The subject token type {kind!r} is not supported.")
    claims = session_tokens.read(parameters.get("subject_token", ""), domain, app, oauth.now())
    if claims is None:
        raise invalid_subject_token()
    installation = _known(oauth, domain, app)
    wanted = parameters.get("requested_token_type")
    if wanted == ONLINE_TOKEN:
        return online(oauth, installation, owner_of(domain, claims.get("sub")))
    if wanted != OFFLINE_TOKEN:
        raise OAuthRefusedError("invalid_request", f"The requested token type {wanted!r} is not supported.")
    return offline(oauth, installation, parameters)


def migrate(oauth: OAuth, domain: str, app: Application, parameters: Parameters) -> Json:
    """Exchange an offline token without expiry for a pair; no merchant need be there."""
    if parameters.get("requested_token_type") != OFFLINE_TOKEN or parameters.get("expiring") != "1":
        raise OAuthRefusedError("invalid_request", "An offline token is exchanged for an expiring one only.")
    return pair(oauth, oauth.tokens.migrate(parameters.get("subject_token", ""), _known(oauth, domain, app)))


def refresh(oauth: OAuth, domain: str, app: Application, parameters: Parameters) -> Json:
    """Replace a pair by the next."""
    if not parameters.get("refresh_token"):
        raise missing("refresh_token")
    return pair(oauth, oauth.tokens.refresh(parameters["refresh_token"], _known(oauth, domain, app)))


def collect(oauth: OAuth, domain: str, app: Application, parameters: Parameters) -> Json:
    """Give the token for an authorization code."""
    if not parameters.get("code"):
        raise missing("code")
    code = oauth.take_code(parameters["code"], domain, app)
    if code.staff is not None:
        return online(oauth, code.installation, code.staff)
    return offline(oauth, code.installation, parameters)


def client_credentials(oauth: OAuth, domain: str, app: Application, _parameters: Parameters) -> Json:
    """Give a token for a day, to an app that belongs to the shop's own organisation."""
    installation = oauth.installation(domain, app.client_id)
    if installation is None:
        raise app_not_installed()
    return _access(oauth, oauth.tokens.issue_for_a_day(installation))


def offline(oauth: OAuth, installation: Installation, parameters: Parameters) -> Json:
    """Give an offline token: without expiry, as long as `expiring` does not ask for a pair."""
    if parameters.get("expiring", "0") == "1":
        return pair(oauth, oauth.tokens.issue_pair(installation))
    return _access(oauth, oauth.tokens.issue_permanent(installation))


def online(oauth: OAuth, installation: Installation, staff: Staff) -> Json:
    """Give a token for a member of staff."""
    return _access(oauth, oauth.tokens.issue_online(installation, staff)) | {
        "associated_user_scope": ",".join(installation.scopes),
        "associated_user": {
            "id": staff.id,
            "first_name": staff.first_name,
            "last_name": staff.last_name,
            "email": staff.email,
            "email_verified": True,
            "account_owner": True,
            "locale": "en",
            "collaborator": False,
        },
    }


def pair(oauth: OAuth, given: RefreshToken) -> Json:
    """Describe an access token and what refreshes it."""
    return _access(oauth, given.access) | {
        "refresh_token": given.token,
        "refresh_token_expires_in": round((given.expires_at - oauth.now()).total_seconds()),
    }


def _access(oauth: OAuth, given: AccessToken) -> Json:
    body: Json = {"access_token": given.token, "scope": ",".join(given.scopes)}
    if given.expires_at is not None:
        body["expires_in"] = round((given.expires_at - oauth.now()).total_seconds())
    return body


def _known(oauth: OAuth, domain: str, app: Application) -> Installation:
    """Return the app's installation; an app that was uninstalled is no client of the shop any more."""
    installation = oauth.installation(domain, app.client_id)
    if installation is None:
        raise invalid_client()
    return installation


GRANTS: dict[str, Callable[[OAuth, str, Application, Parameters], Json]] = {
    TOKEN_EXCHANGE: exchange,
    "refresh_token": refresh,
    "authorization_code": collect,
    "client_credentials": client_credentials,
}
