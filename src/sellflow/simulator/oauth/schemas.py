"""The JSON of the control routes for apps, installations, tokens and their faults."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sellflow.simulator.oauth.models import Proxy
from sellflow.simulator.schemas import Sending

#: Seconds that a time may be moved by: some thirty years.
LONGEST = 1_000_000_000


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProxyInput(_Message):
    """An app proxy: what `/{prefix}/{subpath}/…` of a storefront is forwarded to."""

    url: str = Field(pattern=r"^https?://")
    prefix: str = Field(default="apps", pattern="^(a|apps|community|tools)$")
    subpath: str = Field(default="app", pattern="^[A-Za-z0-9_-]{1,30}$")

    def made(self) -> Proxy:
        """Return the proxy itself."""
        return Proxy(self.url.rstrip("/"), self.prefix, self.subpath)


class AppInput(_Message):
    """An app to register; calling again changes it. `old_client_secret` goes on counting beside the new one."""

    client_secret: str = Field(min_length=1, repr=False)
    old_client_secret: str | None = Field(default=None, min_length=1, repr=False)
    title: str = "App"
    app_url: str = Field(default="http://127.0.0.1:8080/", pattern=r"^https?://")
    redirect_urls: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    proxy: ProxyInput | None = None

    @field_validator("scopes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Take the comma-separated list of `shopify.app.toml`, too."""
        return tuple(one.strip() for one in value.split(",") if one.strip()) if isinstance(value, str) else value


class InstallInput(_Message):
    """A merchant's click on Install. Without `scopes` everything that the app asks for is granted."""

    client_id: str
    scopes: tuple[str, ...] | None = None


class ScopesInput(Sending):
    """What the merchant grants from now on; app/scopes_update tells of it."""

    scopes: tuple[str, ...]


class UninstallInput(Sending):
    """A merchant's click on Uninstall; without `client_id` every app goes."""

    client_id: str | None = None


class SessionTokenInput(_Message):
    """A session token to mint.

    `claims` replace the honest ones (null leaves one out), `age_seconds` makes it that much older, `secret` signs it
    in place of the app's: all of them to make what an app has to refuse.
    """

    client_id: str
    user_id: int | None = None
    age_seconds: int = Field(default=0, ge=-LONGEST, le=LONGEST)
    secret: str | None = Field(default=None, repr=False)
    claims: dict[str, Any] = {}


class AccessTokenInput(_Message):
    """An access token to mint without any grant; `expires_in` in seconds."""

    scopes: tuple[str, ...] = ()
    client_id: str | None = None
    expires_in: float | None = Field(default=None, gt=0, le=LONGEST)


class AgeInput(_Message):
    """By how many seconds a shop's tokens are to be older than they are."""

    access_seconds: float = Field(default=3600, ge=0, le=LONGEST)
    refresh_seconds: float = Field(default=0, ge=0, le=LONGEST)


class Endpoint(StrEnum):
    """What can be made to fail."""

    TOKEN = "token"
    CUSTOMER_TOKEN = "customer_token"
    CUSTOMER_API = "customer_api"


class FaultKind(StrEnum):
    """How a call fails: before its effect, or after it and on the way back."""

    LATENCY = "latency"
    ERROR_BEFORE = "error_before"
    ERROR_AFTER = "error_after"
    DROP_BEFORE = "drop_before"
    DROP_AFTER = "drop_after"


class FaultInput(_Message):
    """A fault for the next `times` calls, of any grant or of one."""

    kind: FaultKind
    endpoint: Endpoint = Endpoint.TOKEN
    grant: str | None = None
    times: int = Field(default=1, ge=1)
    seconds: float = Field(default=1.0, ge=0, le=600)
    status: int = Field(default=503, ge=400, le=599)


class CallCounts(BaseModel):
    """How often an endpoint was called; `failed` counts those that a fault took."""

    received: int = 0
    granted: int = 0
    refused: int = 0
    failed: int = 0
