"""Every table is declared, and none that may hold personal data is declared to hold none without a reason."""

from __future__ import annotations

import re
from datetime import date

import pytest

from sellflow.errors import ConfigurationError
from sellflow.postgres.database import SessionConnection
from sellflow.postgres.personal_data import ABOUT, OF_EVENTS, EventRefs, Holds, Inventory, RoomData, Subject, Table
from sellflow.roles import build_inventory
from sellflow.settings import Settings

#: Columns that could hold something of a customer, of tables declared to hold nothing: why they do not.
HARMLESS = {
    "reconciliations.customers_until": "a moment",
    "reconciliations.detail": "counts of what was looked at",
    "reconciliations.error": "a class of errors of ours and what Shopify says of the call: no resource is named by it",
    "imports.error": "the same",
    "access_tokens.access_token": "an app's, sealed",
    "access_tokens.last_error": "Shopify's words on tokens",
    "access_tokens.previous_refresh_token": "an app's, sealed",
    "access_tokens.refresh_token": "an app's, sealed",
    "apps.client_secret": "an app's",
    "programs.document": "rules for everybody: ids of goods, and words that merchants chose",
    "authorizations.cookie_digest": "a digest of chance",
    "authorizations.domain": "a shop's",
    "authorizations.state_digest": "a digest of chance",
    "compliance_progress.hash_key": "a key, sealed",
    "data_keys.wrapped": "a key, wrapped",
    "endpoints.address": "a merchant's own system",
    "endpoints.description": "an operator's words on it",
    "endpoints.pause_reason": "ours, of failures counted",
    "leases.name": "ids of ours at most",
    "master_keys.wrapped": "a key, wrapped",
    "orders.name": "an order's number",
    "periodic_jobs.last_detail": "ours, counts",
    "periodic_jobs.last_error": "of jobs, which work on no single customer but the one that keeps no error's words",
    "plan_usage.customers": "how many",
    "plans.customers": "how many",
    "shop_plans.source": "one of a few words",
    "plans.description": "what an operator offers",
    "plans.name": "what an operator offers",
    "shop_billing.last_error": "ours, and Shopify's words on a query without variables",
    "shop_billing.subscription_name": "a plan's",
    "shop_plans.reason": "ours, of a subscription",
    "pauses.reason": "an operator's words",
    "service_keys.name": "an operator's words on a program",
    "service_keys.secret_hash": "a hash of chance",
    "shop_settings.settings": "a merchant's own",
    "shop_settings_changes.changes": "a merchant's own",
    "shops.domain": "a shop's",
    "signing_keys.private_key": "a key",
    "signing_keys.public_key": "a key",
    "tombstones.hash": "a keyed hash",
    "token_leases.domain": "a shop's",
    "admin_buckets.in_flight": "names of calls under way",
    "admin_buckets.waiting": "names of calls that wait",
    "apps.previous_secret": "an app's, sealed",
    "endpoint_secrets.secret": "a merchant's own, sealed",
    "transfers.snapshot": "amounts, rates and an order's number",
    "transfers.source": "an order's number",
}

#: What columns are looked at: those that hold anything, and those whose names say so.
_SUSPECT = re.compile(
    r"customer|email|phone|name$|address|note|message|trace|payload|excerpt|detail|error$|reason|description|subject"
    r"|snapshot|body|answer|variables|response|source$|domain"
)


async def columns(owner: SessionConnection) -> list[tuple[str, str, str]]:
    rows = await owner.fetch(
        """
        SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname AS table_name,
               a.attname, format_type(a.atttypid, NULL) AS type
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
          AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        ORDER BY 1, a.attnum
        """
    )
    return [(row["table_name"], row["attname"], row["type"]) for row in rows]


@pytest.fixture
def inventory(settings: Settings) -> Inventory:
    return build_inventory(settings)


async def test_every_table_is_declared_by_the_room_that_owns_it(owner: SessionConnection, inventory: Inventory) -> None:
    undeclared = {table for table, *_ in await columns(owner) if inventory.find(table) is None}
    assert undeclared == set(), "say in your room's personal_data.py what they hold of people"


async def test_every_declared_table_is_there(owner: SessionConnection, inventory: Inventory) -> None:
    there = {table for table, *_ in await columns(owner)}
    assert {table.name for table in inventory.tables() if "*" not in table.name} <= there


async def test_what_belongs_to_a_shop_is_declared_so(owner: SessionConnection, inventory: Inventory) -> None:
    for table, column, _ in await columns(owner):
        declared = inventory.find(table)
        if column == "shop_id":
            assert declared is not None
            assert declared.holds is not Holds.INSTALLATION, table


async def test_no_column_that_could_hold_personal_data_is_overlooked(
    owner: SessionConnection, inventory: Inventory
) -> None:
    suspects = set()
    for table, column, kind in await columns(owner):
        declared = inventory.find(table)
        assert declared is not None
        if declared.holds is Holds.PERSONAL or table.startswith("pgmq."):
            continue
        if kind in ("json", "jsonb", "bytea") or _SUSPECT.search(column):
            suspects.add(f"{table}.{column}")
    assert suspects - set(HARMLESS) == set(), "declare how it is erased, or say here why it holds nothing"


async def test_every_statement_is_understood_by_postgres(owner: SessionConnection, inventory: Inventory) -> None:
    subject = Subject(1, 7, -7, frozenset({1}), "a|b")
    refs = EventRefs(1, date(2026, 1, 1), (1,))
    for table in inventory.tables():
        for statement in (table.erase, table.export):
            if isinstance(statement, str) and statement:
                await owner.execute(ABOUT + statement, *subject.arguments)
        for statement in (table.erase_events, table.export_events, table.delete_events):
            if statement:
                await owner.execute(OF_EVENTS + statement, *refs.arguments)


def test_two_rooms_cannot_declare_one_table_nor_forget_how_to_erase() -> None:
    first = RoomData(room="a", tables=(Table(name="t", holds=Holds.SHOP, why=""),))
    second = RoomData(room="b", tables=(Table(name="t", holds=Holds.SHOP, why=""),))
    with pytest.raises(ConfigurationError, match="declared by a and b"):
        Inventory([first, second])
    with pytest.raises(ConfigurationError, match="does not say how"):
        Inventory([RoomData(room="a", tables=(Table(name="t", holds=Holds.PERSONAL, why=""),))])
