"""The SQL of programmes: which is in force, which there were, and putting a new version in force."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from sellflow.errors import ConfigurationError
from sellflow.loyalty.models import Rounding
from sellflow.loyalty.program import Program, SpendRule
from sellflow.postgres.database import Connection

#: The id of the rule that a shop starts with.
SPEND = "spend"


class StaleProgramError(ConfigurationError):
    """Somebody else saved another version meanwhile."""

    code = "loyalty.stale_program"


@dataclass(frozen=True, slots=True)
class ProgramVersion:
    """A version of a shop's programme. Version 0 is that of a shop which never had one: it gives nothing."""

    shop_id: int
    version: int
    program: Program


@lru_cache(maxsize=1024)
def _parsed(document: str) -> Program:
    """Read a stored document. Many events are worked on under few versions, which never change."""
    return Program.model_validate_json(document)


async def read_programs(connection: Connection, shop_ids: Collection[int]) -> dict[int, ProgramVersion]:
    """Return the programmes in force, by shop."""
    rows = await connection.fetch(
        """
        SELECT s.shop_id, p.version, p.document
        FROM unnest($1::bigint[]) AS s (shop_id)
        CROSS JOIN LATERAL (
            SELECT v.version, v.document FROM programs v WHERE v.shop_id = s.shop_id ORDER BY v.version DESC LIMIT 1
        ) p
        """,
        list(set(shop_ids)),
    )
    found = {row["shop_id"]: ProgramVersion(row["shop_id"], row["version"], _parsed(row["document"])) for row in rows}
    return {shop_id: found.get(shop_id, ProgramVersion(shop_id, 0, Program())) for shop_id in shop_ids}


async def read_program(connection: Connection, shop_id: int) -> ProgramVersion:
    """Return a shop's programme in force."""
    return (await read_programs(connection, [shop_id]))[shop_id]


async def read_versions(
    connection: Connection, versions: Collection[tuple[int, int]]
) -> Mapping[tuple[int, int], Program]:
    """Return programmes by (shop, version)."""
    if not versions:
        return {}
    rows = await connection.fetch(
        """
        SELECT p.shop_id, p.version, p.document
        FROM programs p JOIN unnest($1::bigint[], $2::integer[]) AS k (shop_id, version) USING (shop_id, version)
        """,
        [shop_id for shop_id, _ in versions],
        [version for _, version in versions],
    )
    return {(row["shop_id"], row["version"]): _parsed(row["document"]) for row in rows}


async def save_program(
    connection: Connection, shop_id: int, program: Program, *, by: str, expected: int | None = None
) -> ProgramVersion:
    """Put a new version in force and return it; the same programme again makes none.

    Parameters
    ----------
    by
        Who saved it, as shown to people: a merchant's name, a service's, or a command's.
    expected
        The version that the change was made from; None takes whatever is there.

    Raises
    ------
    StaleProgramError
        If another version than the expected one is in force.
    """
    # One at a time for each shop: the shop's own row is what every version of it has in common.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('sellflow.programs', $1))", shop_id)
    current = await read_program(connection, shop_id)
    if expected is not None and expected != current.version:
        raise StaleProgramError(
            f"version {current.version} of the programme is in force by now and the change was made from version "
            f"{expected}: read it again and make the change there"
        )
    if current.version and program == current.program:
        return current
    await connection.execute(
        "INSERT INTO programs (shop_id, version, document, saved_by) VALUES ($1, $2, $3, $4)",
        shop_id,
        current.version + 1,
        program.model_dump_json(),
        by,
    )
    return ProgramVersion(shop_id, current.version + 1, program)


async def set_spend_rule(
    connection: Connection, shop_id: int, *, points_per_unit: Decimal, rounding: Rounding, by: str = "command"
) -> ProgramVersion:
    """Have a shop give points for each unit of money, by one rule that is changed where it is there already."""
    current = (await read_program(connection, shop_id)).program
    known = current.rule(SPEND)
    if known is not None and not isinstance(known, SpendRule):
        raise ConfigurationError(f"the rule called {SPEND} is one of the kind {known.kind}: change it in the programme")
    changed = {"points_per_unit": points_per_unit, "rounding": rounding}
    rule = (
        known.model_copy(update=changed)
        if known
        else SpendRule.model_validate({"id": SPEND, "kind": "spend", **changed})
    )
    others = tuple(each for each in current.rules if each.id != SPEND)
    return await save_program(connection, shop_id, current.model_copy(update={"rules": (rule, *others)}), by=by)


async def start_earning(
    connection: Connection, shop_id: int, starts_at: datetime, *, only_if_unset: bool = False
) -> None:
    """Have a shop's orders bring points from a moment on; what elder ones brought already stays as it is."""
    current = (await read_program(connection, shop_id)).program
    if only_if_unset and current.starts_at is not None:
        return
    await save_program(connection, shop_id, current.model_copy(update={"starts_at": starts_at}), by="import")
