"""A shop's settings: what there is to set, and versions of what a shop set, each with who changed it.

Stored is what differs from the defaults, one row a shop. A change names the version that it was made from, so that of
two people who change settings at once neither undoes the other's unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sellflow.errors import ConfigurationError, SellflowError
from sellflow.postgres.database import Connection

DOMAIN = r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$"
_LONGEST_NAME = 100


class ShopSettings(BaseModel):
    """What a shop can set, with its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    storefront_domain: Annotated[str, StringConstraints(to_lower=True, max_length=253, pattern=DOMAIN)] | None = Field(
        default=None,
        description="The domain of the shop's storefront, such as shop.example; the myshopify.com one when null. "
        "Shopify's Customer Account API is found through it.",
    )
    customer_account_client_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")] | None = Field(
        default=None,
        description="The client id of the mobile app at Shopify's Customer Account API; customers cannot log in "
        "while it is null.",
    )


@dataclass(frozen=True, slots=True)
class VersionedSettings:
    """A shop's settings as of a version; 0 while it never set any."""

    version: int
    settings: ShopSettings


class SettingsChangedError(SellflowError):
    """Somebody else changed the settings in the meantime."""

    code: ClassVar[str] = "settings.changed"


async def read_settings(connection: Connection, shop_id: int) -> VersionedSettings:
    """Return a shop's settings."""
    row = await connection.fetchrow("SELECT version, settings FROM shop_settings WHERE shop_id = $1", shop_id)
    if row is None:
        return VersionedSettings(0, ShopSettings())
    return VersionedSettings(row["version"], ShopSettings.model_validate_json(row["settings"]))


async def change_settings(
    connection: Connection, shop_id: int, changes: dict[str, Any], *, by: str, version: int | None
) -> VersionedSettings:
    """Change some settings in the caller's transaction; None puts one back to its default. Returns what is in force.

    `version` is the one that the change was made from, None whichever there is.

    Raises
    ------
    SettingsChangedError
        If another version is in force.
    ConfigurationError
        If a setting does not exist, or a value is not one of its.
    """
    # Two first changes at once find no row to lock, so the shop's is locked in its place.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sellflow.shop_settings'), hashint8($1))", shop_id)
    before = await read_settings(connection, shop_id)
    if version is not None and version != before.version:
        raise SettingsChangedError(f"version {before.version} is in force, not {version}: read the settings again")
    after = VersionedSettings(before.version + 1, _merged(before.settings, changes))
    changed = _differences(before.settings, after.settings)
    if not changed:
        return before
    await _write(connection, shop_id, after, by=by[:_LONGEST_NAME])
    await connection.execute(
        "INSERT INTO shop_settings_changes (shop_id, version, changes, changed_by) VALUES ($1, $2, $3, $4)",
        shop_id,
        after.version,
        orjson.dumps(changed).decode(),
        by[:_LONGEST_NAME],
    )
    return after


async def _write(connection: Connection, shop_id: int, new: VersionedSettings, *, by: str) -> None:
    await connection.execute(
        """
        INSERT INTO shop_settings (shop_id, version, settings, changed_by) VALUES ($1, $2, $3, $4)
        ON CONFLICT (shop_id) DO UPDATE
        SET version = EXCLUDED.version, settings = EXCLUDED.settings, changed_at = clock_timestamp(),
            changed_by = EXCLUDED.changed_by
        """,
        shop_id,
        new.version,
        new.settings.model_dump_json(exclude_defaults=True),
        by,
    )


def _merged(before: ShopSettings, changes: dict[str, Any]) -> ShopSettings:
    values = before.model_dump(exclude_defaults=True) | changes
    try:
        return ShopSettings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError("; ".join(faults)) from error


def _differences(before: ShopSettings, after: ShopSettings) -> dict[str, list[Any]]:
    """Return the values before and after of each setting that changed."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return {name: [old[name], new[name]] for name in new if old[name] != new[name]}
