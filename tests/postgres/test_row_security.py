"""A forgotten WHERE leaks nothing: every tenant table is protected, and each login may do its own work alone.

Tables are found through the catalogue, so that one made tomorrow is held to the same rules.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from sellflow.postgres.database import Connection, Database, Login, Pool, SessionConnection
from sellflow.postgres.embedded import DATABASE, SUPERUSER
from sellflow.postgres.transactions import (
    admin_transaction,
    batch_transaction,
    of_web,
    of_worker,
    shop_transaction,
)
from sellflow.settings import load_settings
from tests.conftest import Tenant, make_tenant
from tests.postgres.databases import connected
from tests.postgres.filling import fill

LOGINS = [Login.WEB, Login.WORKER, Login.INGEST, Login.ADMIN]

#: Tables without row-level security, and why: they belong to the installation, or hold no data of a shop.
EXEMPT = {
    "apps": "belongs to the installation",
    "plans": "belongs to the installation",
    "signing_keys": "belongs to the installation",
    "schema_version": "belongs to the installation",
    "receipts": "ids alone; the ingest login must see a duplicate of any shop",
    "parked_messages": "a queue table, references alone",
    "pauses": "a queue table: what operators stopped",
    "leases": "belongs to the installation",
    "compliance_progress": "belongs to the installation",
    "periodic_jobs": "belongs to the installation",
    "service_migrations": "belongs to the installation",
    "master_keys": "belongs to the installation; holds none in the clear",
    "unsealed_secrets": "belongs to the installation; the owner alone reads it, until it is empty",
    "token_leases": "no login reads or writes it: functions do",
    "authorizations": "no login reads or writes it: functions do",
}
#: Both post to the ledger: customers redeem through the one, merchants adjust through the other.
POSTING = {
    "accounts": {"INSERT", "UPDATE"},
    "transfers": {"INSERT"},
    "entries": {"INSERT"},
    "allocations": {"INSERT"},
    "lots": {"INSERT", "UPDATE"},
    "shortfalls": {"INSERT", "UPDATE"},
}
#: What a login may write that is meant to look at most: rights to its own work, beside which it has none.
WRITES = {
    Login.WEB: {
        "customer_sessions": {"INSERT", "UPDATE"},
        "refresh_tokens": {"INSERT", "UPDATE"},
        "idempotency_keys": {"INSERT", "UPDATE"},
        "data_keys": {"INSERT"},
        "access_tokens": {"INSERT", "UPDATE"},
        "admin_buckets": {"INSERT", "UPDATE"},
        "admin_calls": {"INSERT", "UPDATE"},
        "plan_offers": {"INSERT", "UPDATE"},
        "members": {"INSERT", "UPDATE"},
        **POSTING,
    },
    Login.ADMIN: {
        "data_keys": {"INSERT"},
        "endpoints": {"INSERT", "UPDATE"},
        "endpoint_secrets": {"INSERT", "UPDATE", "DELETE"},
        "endpoint_deliveries": {"UPDATE"},
        "dead_letters": {"UPDATE"},
        "outcomes": {"DELETE"},
        "parked_messages": {"DELETE"},
        "events": {"INSERT"},
        "idempotency_keys": {"INSERT", "UPDATE"},
        "shop_settings": {"INSERT", "UPDATE"},
        "shop_settings_changes": {"INSERT"},
        "shop_billing": {"INSERT", "UPDATE"},
        "programs": {"INSERT"},
        "imports": {"INSERT", "UPDATE"},
        "members": {"INSERT", "UPDATE"},
        **POSTING,
    },
}
LEDGER = ["transfers", "entries", "allocations"]

_WITH_SHOP_ID = """
    SELECT c.oid::regclass::text AS name, c.relispartition AS is_partition,
           c.relrowsecurity AS is_enabled, c.relforcerowsecurity AS is_forced
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'shop_id' AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    ORDER BY 1
"""


async def tenant_tables(owner: SessionConnection) -> list[str]:
    """Return the tables with a shop_id that logins work with: partitions are reached through their parents."""
    rows = await owner.fetch(f"SELECT name FROM ({_WITH_SHOP_ID}) tables WHERE NOT is_partition")
    return [row["name"] for row in rows if row["name"] not in EXEMPT]


async def may(owner: SessionConnection, login: Login, right: str, table: str) -> bool:
    return bool(await owner.fetchval("SELECT has_table_privilege($1, $2, $3)", login.value, table, right))


async def all_tables(owner: SessionConnection) -> dict[str, str]:
    """Return every table of ours and pgmq's, partitions included, with a column that could be set."""
    rows = await owner.fetch(
        """
        SELECT c.oid::regclass::text AS name, min(quote_ident(a.attname)) AS settable
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity = ''
        WHERE c.relnamespace IN ('public'::regnamespace, 'pgmq'::regnamespace) AND c.relkind IN ('r', 'p')
          AND NOT a.attisdropped
        GROUP BY c.oid
        """
    )
    return {row["name"]: row["settable"] for row in rows}


async def shops_seen(connection: Connection | Pool, table: str) -> set[int]:
    """Return the shops of all rows that a SELECT without WHERE finds; what is the installation's is no shop's."""
    rows = await connection.fetch(f"SELECT shop_id FROM {table}")
    return {row["shop_id"] for row in rows} - {None}


async def _clone(server_url: str, name: str) -> None:
    admin = await asyncpg.connect(server_url.replace(f"/{DATABASE}?", "/postgres?"), user=SUPERUSER)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE}")
    await admin.close()


async def _with_two_shops(database: Database) -> tuple[Tenant, Tenant]:
    async with connected(database, Login.OWNER) as owner:
        tenant = await make_tenant(owner, "acme")
        other = await make_tenant(owner, "other", app=tenant.app)
        await fill(database, tenant, other)
        for table in await tenant_tables(owner):
            seen = await shops_seen(owner, table)
            assert seen == {tenant.shop_id, other.shop_id}, f"filling.py leaves {table} empty"
    return tenant, other


@pytest.fixture(scope="session")  # not the module's: its tests may be handed out to a process in several goes
def filled(server_url: str, folder: Path) -> tuple[Database, Tenant, Tenant]:
    """Make one database for these tests, with rows of two shops in every tenant table; tests at most add to them."""
    asyncio.run(_clone(server_url, "row_security"))
    url = server_url.replace(f"/{DATABASE}?", "/row_security?")
    database = Database(url, url, load_settings(environment="test", data_dir=folder, database_owner=SUPERUSER))
    return database, *asyncio.run(_with_two_shops(database))


@pytest.fixture
def database(filled: tuple[Database, Tenant, Tenant]) -> Database:
    return filled[0]


@pytest.fixture
def tenant(filled: tuple[Database, Tenant, Tenant]) -> Tenant:
    return filled[1]


@pytest.fixture
def other_tenant(filled: tuple[Database, Tenant, Tenant]) -> Tenant:
    return filled[2]


@pytest.fixture
async def tables(owner: SessionConnection) -> list[str]:
    return await tenant_tables(owner)


async def test_every_table_with_a_shop_id_forces_row_level_security(owner: SessionConnection) -> None:
    rows = await owner.fetch(_WITH_SHOP_ID)
    assert any(row["is_partition"] for row in rows)
    assert not [
        row["name"] for row in rows if not (row["is_enabled"] and row["is_forced"]) and row["name"] not in EXEMPT
    ]


async def test_tables_without_row_level_security_are_those_exempted_by_name(owner: SessionConnection) -> None:
    rows = await owner.fetch(
        """
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'm')
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
        """
    )
    assert {row["relname"] for row in rows} == set(EXEMPT)


async def test_nothing_lives_in_a_schema_that_nobody_looks_at(owner: SessionConnection) -> None:
    rows = await owner.fetch(
        "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'"
    )
    assert {row["schemaname"] for row in rows} == {"public", "pgmq"}


@pytest.mark.parametrize("login", LOGINS)
async def test_a_login_has_no_power_beyond_its_grants(owner: SessionConnection, login: Login) -> None:
    powers = await owner.fetchrow(
        """
        SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication,
               EXISTS (SELECT 1 FROM pg_auth_members WHERE member = r.oid) AS is_member,
               EXISTS (SELECT 1 FROM pg_class WHERE relowner = r.oid) AS owns_tables,
               EXISTS (SELECT 1 FROM pg_proc WHERE proowner = r.oid) AS owns_functions,
               EXISTS (SELECT 1 FROM pg_namespace WHERE nspowner = r.oid) AS owns_schemas,
               EXISTS (SELECT 1 FROM pg_database WHERE datdba = r.oid) AS owns_databases,
               has_schema_privilege(r.oid, 'public', 'CREATE') AS creates_tables,
               has_schema_privilege(r.oid, 'pgmq', 'CREATE') AS creates_queues
        FROM pg_roles r WHERE rolname = $1
        """,
        login.value,
    )
    assert powers is not None
    assert not [power for power, granted in powers.items() if granted]


async def test_web_sees_the_rows_of_its_shop_alone(
    owner: SessionConnection, web_pool: Pool, tables: list[str], tenant: Tenant
) -> None:
    readable = [table for table in tables if await may(owner, Login.WEB, "SELECT", table)]
    assert {"shops", "events", "orders", "entries", "accounts", "dead_letters"} <= set(readable)
    async with shop_transaction(web_pool, tenant.shop_id) as connection:
        for table in readable:
            assert await shops_seen(connection, table) == {tenant.shop_id}, table


async def test_worker_sees_the_rows_of_its_batch_alone(
    owner: SessionConnection, worker_pool: Pool, tables: list[str], tenant: Tenant, other_tenant: Tenant
) -> None:
    readable = [table for table in tables if await may(owner, Login.WORKER, "SELECT", table)]
    assert {"shops", "events", "orders", "entries", "accounts"} <= set(readable)
    async with worker_pool.acquire() as connection:
        async with batch_transaction(connection, [tenant.shop_id]):
            for table in readable:
                assert await shops_seen(connection, table) == {tenant.shop_id}, table
        async with batch_transaction(connection, [tenant.shop_id, other_tenant.shop_id]):
            for table in readable:
                assert await shops_seen(connection, table) == {tenant.shop_id, other_tenant.shop_id}, table


@pytest.mark.parametrize("login", [Login.WEB, Login.WORKER])
async def test_a_login_that_named_no_shop_sees_nothing(
    database: Database, owner: SessionConnection, tables: list[str], login: Login
) -> None:
    async with connected(database, login) as connection:
        for table in tables:
            if await may(owner, login, "SELECT", table):
                assert await shops_seen(connection, table) == set(), table


async def test_the_shop_of_web_opens_nothing_to_worker_and_the_other_way_round(
    database: Database, tenant: Tenant
) -> None:
    async with connected(database, Login.WEB) as web, connected(database, Login.WORKER) as worker:
        await web.execute(f"SET sellflow.shop_ids = '{{{tenant.shop_id}}}'")
        await worker.execute(f"SET sellflow.shop_id = '{tenant.shop_id}'")
        assert await shops_seen(web, "orders") == set()
        assert await shops_seen(worker, "orders") == set()


async def test_a_shop_that_was_set_is_forgotten_with_its_transaction(
    owner: SessionConnection, database: Database, tables: list[str], tenant: Tenant
) -> None:
    readable = [table for table in tables if await may(owner, Login.WEB, "SELECT", table)]
    async with await database.pool(Login.WEB, purpose="test", size=1) as web:
        async with shop_transaction(web, tenant.shop_id) as connection:
            pid = connection.get_server_pid()
            assert await shops_seen(connection, "orders") == {tenant.shop_id}
        with pytest.raises(ZeroDivisionError):
            async with shop_transaction(web, tenant.shop_id):
                raise ZeroDivisionError
        async with web.acquire() as connection:
            assert connection.get_server_pid() == pid
            for table in readable:
                assert await shops_seen(connection, table) == set(), table


async def test_a_batch_that_was_set_is_forgotten_with_its_transaction(
    owner: SessionConnection, database: Database, tables: list[str], tenant: Tenant
) -> None:
    readable = [table for table in tables if await may(owner, Login.WORKER, "SELECT", table)]
    async with await database.pool(Login.WORKER, purpose="test", size=1) as worker:
        async with worker.acquire() as connection, batch_transaction(connection, [tenant.shop_id]):
            pid = connection.get_server_pid()
            assert await shops_seen(connection, "orders") == {tenant.shop_id}
        async with worker.acquire() as connection:
            assert connection.get_server_pid() == pid
            for table in readable:
                assert await shops_seen(connection, table) == set(), table


@pytest.mark.parametrize("login", LOGINS)
async def test_no_login_reaches_a_partition_past_its_parent(
    owner: SessionConnection, database: Database, login: Login
) -> None:
    rows = await owner.fetch(_WITH_SHOP_ID)
    partitions = [row["name"] for row in rows if row["is_partition"]]
    async with connected(database, login) as connection:
        for partition in partitions:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await connection.execute(f"SELECT FROM {partition}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await connection.execute(f"INSERT INTO {partition} DEFAULT VALUES")


@pytest.mark.parametrize("login", list(WRITES))
async def test_web_and_admin_write_what_is_listed_and_nothing_else(owner: SessionConnection, login: Login) -> None:
    queues = await owner.fetch("SELECT queue_name FROM pgmq.meta")
    allowed = dict(WRITES[login])
    if login is Login.ADMIN:
        allowed |= {f"pgmq.q_{row['queue_name']}": {"INSERT"} for row in queues}
    rows = await owner.fetch(
        """
        SELECT c.oid::regclass::text AS name, w.right_to
        FROM pg_class c CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS w (right_to)
        WHERE c.relnamespace IN ('public'::regnamespace, 'pgmq'::regnamespace) AND c.relkind IN ('r', 'p')
          AND (has_table_privilege($1, c.oid, w.right_to) OR (
              w.right_to IN ('INSERT', 'UPDATE') AND has_any_column_privilege($1, c.oid, w.right_to)
          ))
        """,
        login.value,
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["name"], set()).add(row["right_to"])
    assert found == allowed


async def test_web_is_refused_every_write_that_is_not_its_own(
    owner: SessionConnection, web_pool: Pool, tables: list[str], tenant: Tenant
) -> None:
    everything = await all_tables(owner)
    assert set(tables) < set(everything)
    for table, column in everything.items():
        if table in WRITES[Login.WEB]:
            continue
        for statement in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                async with shop_transaction(web_pool, tenant.shop_id) as connection:
                    await connection.execute(statement)


async def test_web_writes_no_row_of_another_shop(web_pool: Pool, tenant: Tenant, other_tenant: Tenant) -> None:
    insert = """
        INSERT INTO access_tokens (shop_id, kind, access_token, expires_at, refresh_token, scopes)
        VALUES ($1, 'permanent', 'x', NULL, NULL, '{}')
    """
    async with shop_transaction(web_pool, tenant.shop_id) as connection:
        assert await connection.execute("UPDATE access_tokens SET failures = failures") == "UPDATE 1"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with shop_transaction(web_pool, tenant.shop_id) as connection:
            await connection.execute(insert, other_tenant.shop_id)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with shop_transaction(web_pool, tenant.shop_id) as connection:
            await connection.execute("UPDATE access_tokens SET shop_id = $1", other_tenant.shop_id)


async def test_a_login_learns_of_the_app_of_its_own_shop_alone(
    web_pool: Pool, worker_pool: Pool, tenant: Tenant, other_tenant: Tenant
) -> None:
    for transactions in (of_web(web_pool), of_worker(worker_pool)):
        async with transactions(tenant.shop_id) as connection:
            assert await connection.fetchval("SELECT handle FROM app_of_shop($1)", tenant.shop_id) == "acme"
            assert await connection.fetchval("SELECT handle FROM app_of_shop($1)", other_tenant.shop_id) is None
            # Neither login's word for a shop counts for the other.
            await connection.execute(f"SET LOCAL sellflow.shop_id = '{tenant.shop_id}'")
            await connection.execute(f"SET LOCAL sellflow.shop_ids = '{{{tenant.shop_id}}}'")
            assert await connection.fetchval("SELECT handle FROM app_of_shop($1)", other_tenant.shop_id) is None


async def test_admin_sees_the_rows_of_its_shop_alone_and_the_installation_every_shop_s(
    owner: SessionConnection, admin_pool: Pool, tables: list[str], tenant: Tenant, other_tenant: Tenant
) -> None:
    both = {tenant.shop_id, other_tenant.shop_id}
    readable = [
        table
        for table in tables
        if await owner.fetchval("SELECT has_column_privilege('sellflow_admin', $1, 'shop_id', 'SELECT')", table)
    ]
    assert {"shops", "events", "dead_letters", "endpoints", "endpoint_secrets", "shop_settings"} <= set(readable)
    for table in readable:
        async with admin_transaction(admin_pool, tenant.shop_id) as connection:
            assert await shops_seen(connection, table) == {tenant.shop_id}, table
        if table != "idempotency_keys":  # each caller's own alone
            async with admin_transaction(admin_pool, None) as connection:
                assert await shops_seen(connection, table) == both, table
        assert await shops_seen(admin_pool, table) == set(), "nothing was named"


async def test_admin_reads_no_secret_and_nothing_that_is_not_its_work(admin_pool: Pool, tenant: Tenant) -> None:
    for statement in (
        "SELECT secret FROM endpoint_secrets",
        "SELECT detail FROM outcomes",
        "SELECT FROM apps",
        "SELECT FROM signing_keys",
        "SELECT FROM service_keys",
        "SELECT FROM access_tokens",
        "SELECT FROM customer_sessions",
        "SELECT message FROM pgmq.q_loyalty",
        "SELECT pgmq.bind_topic('#', 'outgoing')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with admin_transaction(admin_pool, None) as connection:
                await connection.execute(statement)


async def test_admin_writes_into_no_other_shop(admin_pool: Pool, tenant: Tenant, other_tenant: Tenant) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with admin_transaction(admin_pool, tenant.shop_id) as connection:
            await connection.execute(
                "INSERT INTO endpoints (shop_id, kind, address, topics) VALUES ($1, 'webhook', 'https://x', '{#}')",
                other_tenant.shop_id,
            )
    async with admin_transaction(admin_pool, tenant.shop_id) as connection:
        for statement in (
            "UPDATE endpoints SET state = 'removed'",
            "UPDATE dead_letters SET state = 'discarded'",
            "UPDATE shop_settings SET changed_by = 'x'",
        ):
            own = await connection.fetchval(f"SELECT count(*) FROM {statement.split()[1]}")
            assert await connection.execute(f"{statement} WHERE shop_id = {other_tenant.shop_id}") == "UPDATE 0"
            assert own > 0


async def test_a_topic_that_endpoints_may_not_hear_is_not_bound(owner: SessionConnection, admin_pool: Pool) -> None:
    asked = ["#", "outgoing.delivery", "loyalty.*", "loyalty.points.earned"]
    async with admin_transaction(admin_pool, None) as connection:
        assert await connection.fetchval("SELECT bind_endpoint_topics($1)", asked) == 1
    bound = await owner.fetch("SELECT pattern FROM pgmq.topic_bindings WHERE queue_name = 'outgoing'")
    assert {"#", "outgoing.delivery", "loyalty.*"}.isdisjoint(row["pattern"] for row in bound)


async def test_web_cannot_queue_or_take_a_message(web_pool: Pool) -> None:
    for statement in (
        "SELECT pgmq.send('loyalty', '{}')",
        "SELECT pgmq.read('loyalty', 1, 1)",
        "SELECT pgmq.purge_queue('loyalty')",
        "SELECT adopt_events()",
        "CALL make_day_partitions(1)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await web_pool.execute(statement)


async def test_worker_cannot_write_a_row_of_a_shop_outside_its_batch(
    owner: SessionConnection, worker_pool: Pool, tables: list[str], tenant: Tenant, other_tenant: Tenant
) -> None:
    writable = [table for table in tables if await may(owner, Login.WORKER, "INSERT", table)]
    assert {"events", "orders", "accounts", "transfers", "entries", "lots", "outcomes"} <= set(writable)
    async with worker_pool.acquire() as connection:
        for table in writable:
            insert = f"INSERT INTO {table} (shop_id) VALUES ($1)"
            # Postgres asks row-level security before any other rule of the table: that one lets the own shop pass.
            with pytest.raises(asyncpg.NotNullViolationError):
                async with batch_transaction(connection, [tenant.shop_id]):
                    await connection.execute(insert, tenant.shop_id)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                async with batch_transaction(connection, [tenant.shop_id]):
                    await connection.execute(insert, other_tenant.shop_id)


async def test_worker_cannot_touch_a_row_of_a_shop_outside_its_batch_nor_give_it_one(
    owner: SessionConnection, worker_pool: Pool, tables: list[str], tenant: Tenant, other_tenant: Tenant
) -> None:
    changeable = [table for table in tables if await may(owner, Login.WORKER, "UPDATE", table)]
    assert {"orders", "lots", "outcomes"} <= set(changeable)
    async with worker_pool.acquire() as connection:
        for table in changeable:
            async with batch_transaction(connection, [tenant.shop_id]):
                own = await connection.fetchval(f"SELECT count(*) FROM {table}")
                assert await connection.execute(f"UPDATE {table} SET shop_id = shop_id") == f"UPDATE {own}"
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                async with batch_transaction(connection, [tenant.shop_id]):
                    await connection.execute(f"UPDATE {table} SET shop_id = $1", other_tenant.shop_id)


async def test_worker_may_change_of_shops_and_accounts_what_its_work_needs(worker_pool: Pool, tenant: Tenant) -> None:
    async with worker_pool.acquire() as connection:
        async with batch_transaction(connection, [tenant.shop_id]):
            assert await connection.execute("UPDATE shops SET uninstalled_at = now()") == "UPDATE 1"
            await connection.execute("UPDATE accounts SET balance = balance")
        for statement in (
            "UPDATE shops SET domain = domain",
            "UPDATE accounts SET customer_id = customer_id",
            "UPDATE programs SET version = version + 1000",
            "INSERT INTO programs DEFAULT VALUES",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with batch_transaction(connection, [tenant.shop_id]):
                    await connection.execute(statement)


async def test_worker_knows_no_secret(worker_pool: Pool) -> None:
    for table in ("apps", "signing_keys", "leases", "periodic_jobs"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker_pool.execute(f"SELECT FROM {table}")


@pytest.mark.parametrize("table", LEDGER)
async def test_worker_cannot_change_the_ledger(
    worker_pool: Pool, tables: list[str], tenant: Tenant, table: str
) -> None:
    assert table in tables
    async with worker_pool.acquire() as connection:
        for statement in (f"UPDATE {table} SET points = 1000000", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with batch_transaction(connection, [tenant.shop_id]):
                    await connection.execute(statement)


@pytest.mark.parametrize("table", LEDGER)
async def test_not_even_the_owner_changes_the_ledger(owner: SessionConnection, tables: list[str], table: str) -> None:
    assert table in tables
    for statement in (
        f"UPDATE {table} SET points = 1000000",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
    ):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await owner.execute(statement)


async def test_entries_of_a_transfer_that_do_not_sum_to_zero_are_refused(
    owner: SessionConnection, tenant: Tenant
) -> None:
    transfer = await owner.fetchval(
        """
        INSERT INTO transfers (shop_id, kind, source, revision, points, snapshot, day, event_id)
        VALUES ($1, 'earn', 'test:balance', 1, 10, '{}', '2026-03-01', 1) RETURNING transfer_id
        """,
        tenant.shop_id,
    )
    accounts = await owner.fetch(
        "SELECT account_id FROM accounts WHERE shop_id = $1 ORDER BY account_id", tenant.shop_id
    )
    insert = "INSERT INTO entries (transfer_id, account_id, shop_id, points) VALUES ($1, $2, $4, 10), ($1, $3, $4, $5)"
    sides = [accounts[0]["account_id"], accounts[1]["account_id"]]
    with pytest.raises(asyncpg.CheckViolationError, match=f"entries of transfer {transfer} do not sum to zero"):
        await owner.execute(insert, transfer, *sides, tenant.shop_id, -9)
    await owner.execute(insert, transfer, *sides, tenant.shop_id, -10)


async def test_ingest_reads_no_payload_and_learns_nothing_of_apps_and_shops(
    ingest_pool: Pool, tables: list[str]
) -> None:
    for table in [*tables, "apps", "signing_keys", "parked_messages"]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ingest_pool.execute(f"SELECT * FROM {table}")
    for columns in ("payload", "shop_id", "event_id"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ingest_pool.execute(f"SELECT {columns} FROM events")


async def test_ingest_does_not_read_a_payload_by_way_of_its_insert(ingest_pool: Pool, tenant: Tenant) -> None:
    insert = """
        INSERT INTO events (day, event_id, app_id, shop_id, shop_domain, topic, key, payload)
        VALUES ('2026-03-01', nextval('event_ids'), $1, $2, $3, 'shopify.orders.paid', '', '{}')
    """
    arguments = tenant.app.app_id, tenant.shop_id, tenant.shop.domain
    assert await ingest_pool.execute(insert, *arguments) == "INSERT 0 1"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ingest_pool.execute(insert + " RETURNING payload", *arguments)


async def test_ingest_changes_and_removes_nothing(
    owner: SessionConnection, ingest_pool: Pool, tables: list[str]
) -> None:
    everything = await all_tables(owner)
    assert set(tables) < set(everything)
    for table, column in everything.items():
        for statement in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await ingest_pool.execute(statement)


async def test_ingest_inserts_events_receipts_and_messages_alone(owner: SessionConnection) -> None:
    writable = [table for table in await all_tables(owner) if await may(owner, Login.INGEST, "INSERT", table)]
    queues = await owner.fetch("SELECT queue_name FROM pgmq.meta")
    assert set(writable) == {"events", "receipts", *(f"pgmq.q_{row['queue_name']}" for row in queues)}


async def test_ingest_sends_a_message_but_cannot_read_one(ingest_pool: Pool) -> None:
    assert await ingest_pool.fetchval("SELECT pgmq.send('loyalty', '{}')") is not None
    for statement in ("SELECT message FROM pgmq.q_loyalty", "SELECT pgmq.read('loyalty', 1, 1)"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ingest_pool.execute(statement)
