"""Whether an app and a shop are connected as they should be, and what to mend where they are not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sellflow.errors import SellflowError
from sellflow.settings import Settings
from sellflow.shopify.tokens import Access, AccessTokens, NotInstalledError, ReinstallNeededError
from sellflow.shopify.tokens.endpoint import TokenEndpoint
from sellflow.shopify.tokens.errors import CredentialsRefusedError, GrantRefusedError
from sellflow.shopify.tokens.rules import missing_scopes
from sellflow.shops.install import client_of, wanted_scopes
from sellflow.shops.models import App, Shop

TIMEOUT = 10.0
#: Seconds of skew from which on we say so, and beyond which signed queries are refused.
NOTED_SKEW = 10.0
LARGEST_SKEW = 90.0
HISTORY = "read_all_orders"

#: What can never be a refresh token: the refusal tells whether Shopify knows the app, and changes nothing.
_NO_TOKEN = "sellflow-check"  # noqa: S105

_QUERY = """{
  shop { name currencyCode }
  currentAppInstallation { accessScopes { handle } }
  webhookSubscriptions(first: 100) { nodes { topic } }
}"""

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One thing that was looked at. `mend` says what to do, where something is to be done."""

    about: str
    level: Level
    said: str
    mend: str = ""


class _Handle(BaseModel):
    handle: str


class _Grants(BaseModel):
    scopes: list[_Handle] = Field(alias="accessScopes")


class _Topic(BaseModel):
    topic: str


class _Topics(BaseModel):
    nodes: list[_Topic]


class _Shop(BaseModel):
    name: str
    currency: str = Field(alias="currencyCode")


class _Data(BaseModel):
    shop: _Shop
    installation: _Grants = Field(alias="currentAppInstallation")
    subscriptions: _Topics = Field(alias="webhookSubscriptions")


class _Answer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    data: _Data


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the Admin API answered, and with what it came."""

    data: _Data
    api_version: str
    skew: float | None


class Check:
    """Looks at one app, and at the shops that have it."""

    def __init__(self, settings: Settings, tokens: AccessTokens) -> None:
        self._settings = settings
        self._tokens = tokens

    async def app(self, app: App) -> list[Finding]:
        """Look at what all shops of an app share."""
        return [await self._public_url(app)]

    async def shop(self, app: App, shop: Shop) -> list[Finding]:
        """Look at one shop, from the app's credentials to what it grants, as far as anything can be seen."""
        findings = [await self._credentials(app, shop)]
        access = await self._access(shop)
        if isinstance(access, Finding):
            return [*findings, access]
        findings.append(Finding("token", "ok", "there is one that Shopify should take"))
        heard = await self._hear(shop, access)
        if isinstance(heard, Finding):
            return [*findings, heard]
        return [*findings, *self._judge(app, heard)]

    async def _public_url(self, app: App) -> Finding:
        url = self._settings.public_url
        if not url:
            told = "nobody outside knows where we are, so no webhook can come"
            return Finding("public address", "fail", told, "set SELLFLOW_PUBLIC_URL to the address of the web role")
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
                answer = await client.get(f"{url}/readyz")
        except httpx.HTTPError as error:
            mend = "see that the name resolves, the certificate is valid, and the web role runs behind it"
            return Finding("public address", "fail", f"{url} cannot be reached from here: {type(error).__name__}", mend)
        if answer.status_code != httpx.codes.OK:
            mend = "see that the address leads to the web role, and that it is ready"
            return Finding("public address", "fail", f"{url}/readyz answers {answer.status_code}", mend)
        if not url.startswith("https:") and app.shopify_url is None:
            return Finding("public address", "fail", f"{url} is not https", "Shopify sends webhooks to https alone")
        return Finding("public address", "ok", f"{url} answers; webhooks go to {url}/webhooks/shopify/{app.handle}")

    async def _credentials(self, app: App, shop: Shop) -> Finding:
        endpoint = TokenEndpoint()
        try:
            await endpoint.refresh(client_of(app, shop.domain), _NO_TOKEN)
        except CredentialsRefusedError as error:
            mend = "compare `sellflow apps list` with the app's dashboard; `sellflow apps rotate` sets the secret"
            return Finding("credentials", "fail", str(error), mend)
        except GrantRefusedError:
            return Finding("credentials", "ok", "Shopify knows the app by its client id and secret")
        except SellflowError as error:
            return Finding("credentials", "fail", str(error), "see that this machine reaches the shop's domain")
        finally:
            await endpoint.close()
        return Finding("credentials", "warn", "Shopify gave a token for none", "report this: it should not happen")

    async def _access(self, shop: Shop) -> Access | Finding:
        try:
            return await self._tokens.get(shop.shop_id)
        except NotInstalledError as error:
            mend = "open the app in the shop's admin, or run `sellflow shopify connect`"
            return Finding("token", "fail", str(error), mend)
        except ReinstallNeededError as error:
            return Finding("token", "fail", str(error), "open the app in the shop's admin")
        except SellflowError as error:
            return Finding("token", "fail", str(error), "mend the credentials first, or wait for Shopify")

    async def _hear(self, shop: Shop, access: Access) -> _Heard | Finding:
        """Ask the Admin API, with another token where the first is refused."""
        answer = await self._ask(access)
        if isinstance(answer, httpx.Response) and answer.status_code == httpx.codes.UNAUTHORIZED:
            try:
                answer = await self._ask(await self._tokens.renew(shop.shop_id, access.token))
            except SellflowError as error:
                return Finding("Admin API", "fail", str(error), "open the app in the shop's admin")
        if isinstance(answer, Finding):
            return answer
        try:
            heard = _Answer.model_validate_json(answer.content)
        except ValidationError:
            said = f"it answers {answer.status_code} with something else than data"
            return Finding(
                "Admin API", "fail", said, "see whether the shop is frozen, and the API version is supported"
            )
        return _Heard(heard.data, answer.headers.get("x-shopify-api-version", ""), _skew(answer))

    async def _ask(self, access: Access) -> httpx.Response | Finding:
        url = f"{access.base_url}/admin/api/{self._settings.shopify_api_version}/graphql.json"
        headers = {"x-shopify-access-token": access.token}
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, headers=headers) as client:
                return await client.post(url, json={"query": _QUERY})
        except httpx.HTTPError as error:
            said = f"{access.domain} cannot be reached: {type(error).__name__}"
            return Finding("Admin API", "fail", said, "see that this machine reaches the shop's domain")

    def _judge(self, app: App, heard: _Heard) -> list[Finding]:
        granted = [each.handle for each in heard.data.installation.scopes]
        wanted = wanted_scopes(app, self._settings)
        shop = heard.data.shop
        return [
            Finding("Admin API", "ok", f"{shop.name!r} answers; its currency is {shop.currency}"),
            _scopes([scope for scope in wanted if scope != HISTORY], granted),
            _history(wanted, granted),
            self._version(heard.api_version),
            _clock(heard.skew),
            _subscriptions(heard.data.subscriptions.nodes, app),
        ]

    def _version(self, answered: str) -> Finding:
        pinned = self._settings.shopify_api_version
        if not answered:
            return Finding("API version", "ok", f"{pinned}, as far as the answer tells")
        if answered != pinned:
            said = f"Shopify answers as {answered}, not as {pinned}"
            return Finding("API version", "warn", said, "that version has ended: move to a newer Sellflow")
        return Finding("API version", "ok", pinned)


def _scopes(wanted: list[str], granted: list[str]) -> Finding:
    lacking = missing_scopes(wanted, granted)
    if not lacking:
        return Finding("access scopes", "ok", f"all {len(wanted)} that are wanted are granted")
    mend = "deploy the file of `sellflow shopify app-config`, then open the app in the shop's admin and approve"
    return Finding("access scopes", "fail", f"not granted: {', '.join(lacking)}", mend)


def _history(wanted: Sequence[str], granted: Sequence[str]) -> Finding:
    if HISTORY in granted:
        return Finding("order history", "ok", "orders of any age can be read")
    said = f"{HISTORY} is not granted: orders older than 60 days cannot be read"
    mend = "ask for it in the app's dashboard under API access" if HISTORY in wanted else ""
    return Finding("order history", "warn", said, mend)


def _clock(skew: float | None) -> Finding:
    if skew is None:
        return Finding("clock", "warn", "Shopify's answer does not tell the time")
    said = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Shopify's"
    if abs(skew) > LARGEST_SKEW:
        mend = "set this machine's clock (NTP): signed queries and session tokens are refused as stale"
        return Finding("clock", "fail", said, mend)
    return Finding("clock", "warn" if abs(skew) > NOTED_SKEW else "ok", said)


def _subscriptions(found: list[_Topic], app: App) -> Finding:
    said = f"{len(found)} made through the API" if found else "none made through the API, as it should be"
    note = f"those of shopify.app.toml are not listed there: see the app's dashboard for {app.handle}"
    return Finding("webhooks", "ok", f"{said}; {note}")


def _skew(answer: httpx.Response) -> float | None:
    """Return the seconds that this machine's clock is ahead of the answer's, which counts whole seconds."""
    try:
        ahead = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None
    return 0.0 if abs(ahead) < 2.0 else ahead
