"""The JSON of the control routes for customers' sign-in."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClientInput(_Message):
    """A public client; without `redirect_uris` it gets that of Shopify's mobile apps, `shop.{shop_id}.app://callback`."""

    redirect_uris: tuple[str, ...] = ()
    logout_uris: tuple[str, ...] = ()


class RotationInput(_Message):
    """A rotation of keys; without `keep_old` nobody can check the id tokens of before."""

    keep_old: bool = True
