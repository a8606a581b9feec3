"""`sellflow demo`: it plays the real thing, and it would notice a fault."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from sellflow.cli.demo.check import compare, expected_points
from sellflow.postgres.database import SessionConnection
from sellflow.simulator.schemas import FinalOrder
from tests.cli.commands import environment, free_port, sellflow
from tests.conftest import Tenant


def order(**changes: object) -> FinalOrder:
    known = {"order_id": 1, "name": "#1", "customer_id": 7, "currency": "USD", "paid": True, "cancelled": False}
    amounts = {"subtotal": "10.90", "refunded": "0", "refunds": 0}
    return FinalOrder.model_validate(known | amounts | changes)


def test_the_second_opinion_counts_whole_points_for_money_that_was_kept() -> None:
    rate = Decimal(2)
    assert expected_points(order(), rate) == 21
    assert expected_points(order(refunded="3.30"), rate) == 15
    assert expected_points(order(refunded="10.90"), rate) == 0
    for nothing in ({"customer_id": None}, {"paid": False}, {"cancelled": True}):
        assert expected_points(order(**nothing), rate) == 0


async def test_points_that_are_missing_or_too_many_are_noticed(owner: SessionConnection, tenant: Tenant) -> None:
    missing = await compare(owner, tenant.shop_id, orders=[order()], webhooks=[], points_per_unit=Decimal(1))
    assert (missing.lost, missing.doubled, missing.points_expected, missing.points_awarded) == (1, 0, 10, 0)
    await _give(owner, tenant.shop_id, order_id=1, points=20)
    doubled = await compare(owner, tenant.shop_id, orders=[order()], webhooks=[], points_per_unit=Decimal(1))
    assert (doubled.lost, doubled.doubled, doubled.points_awarded) == (0, 1, 20)


async def _give(owner: SessionConnection, shop_id: int, *, order_id: int, points: int) -> None:
    await owner.execute(
        """
        WITH sides AS (
            INSERT INTO accounts (shop_id, kind, customer_id, balance)
            VALUES ($1, 'customer', 7, $3::bigint), ($1, 'issued', NULL, NULL)
            RETURNING account_id, customer_id
        ), posted AS (
            INSERT INTO transfers (shop_id, kind, source, revision, points, snapshot, day, event_id)
            VALUES ($1, 'earn', $2, 1, $3::bigint, '{}', current_date, 1)
            RETURNING transfer_id
        )
        INSERT INTO entries (transfer_id, account_id, shop_id, points)
        SELECT transfer_id, account_id, $1, CASE WHEN customer_id IS NULL THEN -$3::bigint ELSE $3::bigint END
        FROM posted, sides
        """,
        shop_id,
        f"order:{order_id}",
        points,
    )


def test_the_demo_kills_a_worker_and_loses_and_doubles_nothing(folder: Path) -> None:
    env = environment(folder / "demo", web_port=free_port(), simulator_port=free_port())
    done = sellflow("demo", "--json", "--kills", "1", env=env)
    assert done.code == 0, done.err
    figures = json.loads(done.out.splitlines()[-1])
    assert (figures["orders_sent"], figures["orders_processed"]) == (200, 200)
    assert (figures["lost"], figures["doubled"], figures["kills"]) == (0, 0, 1)
    assert figures["points_awarded"] == figures["points_expected"] > 0
