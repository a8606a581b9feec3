"""Apps and their installations: who may ask for tokens, and who has which."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sellflow.errors import NotFoundError
from sellflow.simulator.ids import Ids
from sellflow.simulator.oauth.errors import (
    invalid_client,
    missing,
    unknown_application,
    unknown_code,
)
from sellflow.simulator.oauth.models import AccessToken, Application, Code, Installation, Proxy, Staff
from sellflow.simulator.oauth.tokens import Tokens

CODE_LIFE = timedelta(minutes=10)
#: The client id of tokens that were minted for a shop without any app.
NO_APP = "no-app"


class OAuth:
    """The part of Shopify that knows apps.

    Parameters
    ----------
    ids
        Gives out numbers.
    now
        Tells the time: a test may let it pass.
    """

    def __init__(self, ids: Ids, now: Callable[[], datetime]) -> None:
        self.now = now
        self.tokens = Tokens(now)
        self.apps: dict[str, Application] = {}
        self._ids = ids
        self._installations: dict[tuple[str, str], Installation] = {}
        self._codes: dict[str, Code] = {}

    def register(
        self,
        client_id: str,
        *,
        secrets: tuple[str, ...],
        title: str,
        app_url: str,
        redirect_urls: tuple[str, ...],
        scopes: tuple[str, ...],
        proxy: Proxy | None,
    ) -> Application:
        """Return the app, made or changed."""
        known = self.apps.get(client_id)
        self.apps[client_id] = Application(
            id=known.id if known else self._ids(),
            client_id=client_id,
            secrets=secrets,
            title=title,
            app_url=app_url,
            redirect_urls=redirect_urls,
            scopes=scopes,
            proxy=proxy,
        )
        return self.apps[client_id]

    def app(self, client_id: str) -> Application:
        """Return an app.

        Raises
        ------
        NotFoundError
            If there is none of that client id.
        """
        if client_id not in self.apps:
            raise NotFoundError(f"no app {client_id}: register it with PUT /apps/{client_id}")
        return self.apps[client_id]

    def authenticate(self, client_id: str, secret: str) -> Application:
        """Return the app that a request to the token endpoint comes from.

        Raises
        ------
        OAuthRefusedError
            If the app is unknown or the secret is none of its own.
        """
        if not client_id:
            raise missing("client_id")
        if client_id not in self.apps:
            raise unknown_application(client_id)
        app = self.apps[client_id]
        if not any(secrets.compare_digest(secret.encode(), known.encode()) for known in app.secrets):
            raise invalid_client()
        return app

    def install(self, domain: str, client_id: str, scopes: Sequence[str] | None = None) -> Installation:
        """Return the installation that a merchant's click makes, or changes where the app was there already.

        Without `scopes` all that the app asks for are granted.

        Raises
        ------
        NotFoundError
            If there is no such app.
        """
        app = self.app(client_id)
        granted = tuple(app.scopes if scopes is None else scopes)
        known, now = self._installations.get((domain, client_id)), self.now()
        first = Installation(domain, client_id, granted, installed_at=now, changed_at=now)
        made = replace(first, installed_at=known.installed_at) if known else first
        self._installations[domain, client_id] = made
        self.tokens.grant(made)
        return made

    def installation(self, domain: str, client_id: str) -> Installation | None:
        """Return an installation, or None where the shop does not have the app."""
        return self._installations.get((domain, client_id))

    def installed(self, domain: str) -> list[Installation]:
        """Return a shop's installations."""
        return [one for one in self._installations.values() if one.domain == domain]

    def uninstall(self, domain: str, client_id: str | None = None) -> list[Installation]:
        """Remove an app from a shop, or all apps: their tokens and codes end at once."""
        removed = [one for one in self.installed(domain) if client_id in (None, one.client_id)]
        for gone in removed:
            del self._installations[domain, gone.client_id]
            self.tokens.revoke(domain, gone.client_id)
        lost = {(gone.domain, gone.client_id) for gone in removed}
        self._codes = {
            text: code
            for text, code in self._codes.items()
            if (code.installation.domain, code.installation.client_id) not in lost
        }
        return removed

    def give_code(self, installation: Installation, staff: Staff | None) -> str:
        """Return an authorization code; with `staff` it is for an online token."""
        text = secrets.token_hex(16)
        self._codes[text] = Code(installation, self.now() + CODE_LIFE, staff)
        return text

    def take_code(self, text: str, domain: str, app: Application) -> Code:
        """Return what a code stands for; nobody gets it a second time.

        Raises
        ------
        OAuthRefusedError
            If the code is unknown, used, expired or another's.
        """
        code = self._codes.get(text)
        if code is None or (code.installation.domain, code.installation.client_id) != (domain, app.client_id):
            raise unknown_code()
        del self._codes[text]
        if self.now() >= code.expires_at:
            raise unknown_code()
        return code

    def mint(self, domain: str, scopes: Sequence[str], client_id: str | None, life: timedelta | None) -> AccessToken:
        """Return a token without any grant, for tests and for shops that have no app.

        Raises
        ------
        NotFoundError
            If the app is named and does not exist.
        """
        if client_id is not None:
            self.app(client_id)
        made = Installation(domain, client_id or NO_APP, tuple(scopes), self.now(), self.now())
        return self.tokens.mint(made, life)
