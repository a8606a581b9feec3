"""Access and refresh tokens: how they are given out, rotated, aged and revoked.

The rules are those of Shopify's page on offline access tokens and of its changelog entries "More resilient refreshes
for expiring offline access tokens" and "More resilient token exchanges when migrating tokens without a user session".
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from sellflow.simulator.oauth.errors import expired_refresh_token, inactive_refresh_token, invalid_subject_token
from sellflow.simulator.oauth.models import AccessMode, AccessToken, Installation, RefreshToken, Staff

OFFLINE_LIFE = timedelta(hours=1)
REFRESH_LIFE = timedelta(days=90)
ONLINE_LIFE = timedelta(hours=24)
REFRESH_RECOVERY = timedelta(days=30)
MIGRATION_RECOVERY = timedelta(days=7)


class Tokens:
    """Every token ever given out, forgotten at the end of the process."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}
        self._migrated: dict[str, tuple[datetime, RefreshToken]] = {}

    def find(self, token: str) -> AccessToken | None:
        """Return an access token, whatever its state."""
        return self._access.get(token)

    def is_valid(self, access: AccessToken) -> bool:
        """Whether the Admin API takes a token now."""
        return not access.is_revoked and (access.expires_at is None or self._now() < access.expires_at)

    def issue_permanent(self, installation: Installation) -> AccessToken:
        """Return the installation's token without expiry: the same one each time, with what is granted now."""
        for known in self._of(installation.domain, installation.client_id):
            if known.mode is AccessMode.OFFLINE and known.expires_at is None and not known.is_revoked:
                known.scopes = installation.scopes
                return known
        return self._keep(self._token(installation))

    def issue_pair(self, installation: Installation) -> RefreshToken:
        """Return a new pair; the pairs before it end: a shop has one expiring token of an app at a time."""
        self._revoke_pairs(installation)
        return self._pair(installation)

    def issue_online(self, installation: Installation, staff: Staff) -> AccessToken:
        """Return a token for a member of staff."""
        return self._keep(self._token(installation, AccessMode.ONLINE, ONLINE_LIFE, staff))

    def issue_for_a_day(self, installation: Installation) -> AccessToken:
        """Return what the client credentials grant gives: a day, and nothing to refresh it with."""
        return self._keep(self._token(installation, life=ONLINE_LIFE))

    def refresh(self, token: str, installation: Installation) -> RefreshToken:
        """Return the pair that replaces this one.

        A token that was used before gives out the same pair again, for thirty days and until its replacement is
        used: that is how an app recovers from an answer it never got.

        Raises
        ------
        OAuthRefusedError
            If the token is unknown, of another app or shop, retired, revoked or expired.
        """
        known = self._refresh.get(token)
        if known is None or not _belongs(known.access, installation) or known.is_retired:
            raise inactive_refresh_token()
        now = self._now()
        if now >= known.expires_at:
            raise expired_refresh_token()
        if known.first_used_at and now >= known.first_used_at + REFRESH_RECOVERY:
            raise inactive_refresh_token()
        self._retire_before(known)
        if known.replacement is None:
            known.first_used_at, known.replacement = now, self._pair(installation)
        known.access.is_revoked = True
        return self._revived(known.replacement)

    def migrate(self, token: str, installation: Installation) -> RefreshToken:
        """Return the pair that replaces a token without expiry; it ends that token.

        The same token gives out the same pair for seven days, until the pair is refreshed or replaced.

        Raises
        ------
        OAuthRefusedError
            If the token cannot be migrated.
        """
        access = self._access.get(token)
        if access is None or not _belongs(access, installation) or access.mode is AccessMode.ONLINE:
            raise invalid_subject_token()
        if token in self._migrated:
            at, pair = self._migrated[token]
            if self._now() >= at + MIGRATION_RECOVERY or pair.is_retired or pair.first_used_at:
                raise invalid_subject_token()
            return self._revived(pair)
        if access.expires_at is not None or access.is_revoked:
            raise invalid_subject_token()
        pair = self.issue_pair(installation)
        access.is_revoked = True
        self._migrated[token] = self._now(), pair
        return pair

    def revoke(self, domain: str, client_id: str) -> None:
        """End every token of an app in a shop."""
        for access in self._of(domain, client_id):
            access.is_revoked = True
        for pair in self._refresh.values():
            if (pair.access.domain, pair.access.client_id) == (domain, client_id):
                pair.is_retired = True

    def grant(self, installation: Installation) -> None:
        """Let the offline tokens of an installation carry the scopes it has now."""
        for access in self._of(installation.domain, installation.client_id):
            if access.mode is AccessMode.OFFLINE:
                access.scopes = installation.scopes

    def age(self, domain: str, access: timedelta, refresh: timedelta) -> None:
        """Let a shop's tokens be that much older than they are."""
        for token in self._access.values():
            if token.domain == domain and token.expires_at is not None:
                token.expires_at -= access
        for pair in self._refresh.values():
            if pair.access.domain == domain:
                pair.expires_at -= refresh
                pair.first_used_at = pair.first_used_at and pair.first_used_at - refresh
        for token_text, (at, pair) in self._migrated.items():
            if pair.access.domain == domain:
                self._migrated[token_text] = at - refresh, pair

    def mint(self, installation: Installation, life: timedelta | None) -> AccessToken:
        """Return an offline token beside all others, for a shop that never installed an app."""
        return self._keep(self._token(installation, life=life))

    def _of(self, domain: str, client_id: str) -> Iterator[AccessToken]:
        return (one for one in self._access.values() if (one.domain, one.client_id) == (domain, client_id))

    def _revoke_pairs(self, installation: Installation) -> None:
        for pair in self._refresh.values():
            if _belongs(pair.access, installation):
                pair.is_retired = pair.access.is_revoked = True

    def _retire_before(self, used: RefreshToken) -> None:
        """Retire the token that `used` replaced: whoever uses the replacement has it."""
        for pair in self._refresh.values():
            if pair.replacement is used:
                pair.is_retired = True

    def _revived(self, pair: RefreshToken) -> RefreshToken:
        """Return a pair that is given out once more, with an hour of life where it has run out."""
        if not self.is_valid(pair.access):
            pair.access.expires_at = self._now() + OFFLINE_LIFE
        return pair

    def _pair(self, installation: Installation) -> RefreshToken:
        access = self._keep(self._token(installation, life=OFFLINE_LIFE))
        pair = RefreshToken(f"shprt_{secrets.token_hex(16)}", access, self._now() + REFRESH_LIFE)
        self._refresh[pair.token] = pair
        return pair

    def _token(
        self,
        installation: Installation,
        mode: AccessMode = AccessMode.OFFLINE,
        life: timedelta | None = None,
        staff: Staff | None = None,
    ) -> AccessToken:
        return AccessToken(
            token=f"{'shpua' if mode is AccessMode.ONLINE else 'shpat'}_{secrets.token_hex(16)}",
            domain=installation.domain,
            client_id=installation.client_id,
            scopes=installation.scopes,
            mode=mode,
            expires_at=None if life is None else self._now() + life,
            staff=staff,
        )

    def _keep(self, access: AccessToken) -> AccessToken:
        self._access[access.token] = access
        return access


def _belongs(access: AccessToken, installation: Installation) -> bool:
    return (access.domain, access.client_id) == (installation.domain, installation.client_id)
