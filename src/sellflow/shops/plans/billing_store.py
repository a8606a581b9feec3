"""The SQL of billing: what Shopify said last, who wants it read again, and open offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sellflow.errors import ConfigurationError, NotFoundError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.shops.plans.models import AppBilling, Billing, Offer, Plan, Subscription

#: Hours for which an offer is shown again: Shopify takes no answer after two days.
OFFER_HOURS = 47


async def ask_for_check(connection: Connection, shop_ids: Iterable[int]) -> None:
    """Have what Shopify says of shops' subscriptions read again soon; safe to repeat, and cheap."""
    await connection.execute(
        """
        INSERT INTO shop_billing AS b (shop_id) SELECT DISTINCT unnest($1::bigint[]) ORDER BY 1
        ON CONFLICT (shop_id) DO UPDATE SET asked_at = clock_timestamp(), next_at = clock_timestamp()
        """,
        list(shop_ids),
    )


async def add_new_shops(connection: SessionConnection) -> None:
    """Have every shop checked whose app bills and that nobody asked for yet."""
    await connection.execute(
        """
        INSERT INTO shop_billing (shop_id)
        SELECT s.shop_id FROM shops s JOIN apps a USING (app_id)
        WHERE a.billing <> 'none' AND s.uninstalled_at IS NULL
          AND NOT EXISTS (SELECT FROM shop_billing b WHERE b.shop_id = s.shop_id)
        ON CONFLICT (shop_id) DO NOTHING
        """
    )


async def due_checks(connection: SessionConnection, *, limit: int) -> list[int]:
    """Return shops that are to be checked now, those that wait longest first."""
    rows = await connection.fetch(
        """
        SELECT b.shop_id FROM shop_billing b JOIN shops s USING (shop_id) JOIN apps a USING (app_id)
        WHERE b.next_at <= clock_timestamp() AND a.billing <> 'none' AND s.uninstalled_at IS NULL
        ORDER BY b.next_at LIMIT $1
        """,
        limit,
    )
    return [row["shop_id"] for row in rows]


async def note_check(
    connection: Connection,
    shop_id: int,
    found: Subscription | None,
    *,
    begun: datetime,
    every: float,
    complaint: str,
) -> None:
    """Write down what Shopify said. Who asked while it was being read is answered by another check at once."""
    await connection.execute(
        """
        UPDATE shop_billing
        SET checked_at = $2, failures = 0, last_error = $4, subscription_id = $5, subscription_name = $6, status = $7,
            is_test = $8, current_period_end = $9,
            next_at = CASE WHEN asked_at > $2 THEN clock_timestamp()
                           ELSE clock_timestamp() + make_interval(secs => $3) END
        WHERE shop_id = $1
        """,
        shop_id,
        begun,
        every,
        complaint,
        found and found.number,
        found and found.name,
        found and found.status,
        found and found.is_test,
        found and found.current_period_end,
    )


async def note_failure(connection: Connection, shop_id: int, *, error: str, failures: int, pause: float) -> None:
    """Write down that Shopify could not be asked, and when it is tried again."""
    await connection.execute(
        """
        UPDATE shop_billing
        SET failures = $2, last_error = $3, next_at = clock_timestamp() + make_interval(secs => $4)
        WHERE shop_id = $1
        """,
        shop_id,
        failures,
        error[:500],
        pause,
    )


async def failures_of(connection: Connection, shop_id: int) -> int:
    """Return how often in a row Shopify could not be asked."""
    return int(await connection.fetchval("SELECT failures FROM shop_billing WHERE shop_id = $1", shop_id) or 0)


async def app_billing(connection: Connection, shop_id: int) -> AppBilling:
    """Return how the merchants of a shop's app pay; for logins that see apps.

    Raises
    ------
    NotFoundError
        If there is no such shop, or it is not visible.
    """
    row = await connection.fetchrow(
        """
        SELECT s.domain, COALESCE(a.pricing_handle, a.handle) AS handle, a.client_id, a.billing, a.billing_is_test
        FROM shops s JOIN apps a USING (app_id) WHERE s.shop_id = $1
        """,
        shop_id,
    )
    if row is None:
        raise NotFoundError("there is no such shop")
    return AppBilling(row["domain"], row["handle"], row["client_id"], Billing(row["billing"]), row["billing_is_test"])


async def set_app_billing(
    connection: SessionConnection,
    handle: str,
    *,
    billing: str | None,
    is_test: bool | None,
    pricing_handle: str | None,
) -> None:
    """Say how an app's merchants pay; None leaves as it is.

    Raises
    ------
    ConfigurationError
        If a value is refused.
    NotFoundError
        If there is no such app.
    """
    if billing is not None and billing not in [each.value for each in Billing]:
        raise ConfigurationError(f"billing is managed, manual or none, not {billing!r}")
    status = await connection.execute(
        """
        UPDATE apps SET billing = COALESCE($2, billing), billing_is_test = COALESCE($3, billing_is_test),
                        pricing_handle = COALESCE($4, pricing_handle)
        WHERE handle = $1
        """,
        handle,
        billing,
        is_test,
        pricing_handle,
    )
    if status == "UPDATE 0":
        raise NotFoundError(f"there is no app {handle!r}; `sellflow apps list` shows them")


async def open_offer(connection: Connection, shop_id: int, plan: Plan, *, by: str) -> Offer:
    """Return the open offer of a plan to a shop, made where there is none; of several callers each gets the same."""
    await connection.execute(
        """
        UPDATE plan_offers SET closed_at = clock_timestamp()
        WHERE shop_id = $1 AND plan = $2 AND closed_at IS NULL
          AND made_at < clock_timestamp() - make_interval(hours => $3)
        """,
        shop_id,
        plan.handle,
        OFFER_HOURS,
    )
    await connection.execute(
        """
        INSERT INTO plan_offers (shop_id, plan, made_by) VALUES ($1, $2, $3)
        ON CONFLICT (shop_id, plan) WHERE closed_at IS NULL DO NOTHING
        """,
        shop_id,
        plan.handle,
        by,
    )
    row = await connection.fetchrow(
        """
        SELECT offer_id, subscription_id, confirmation_url FROM plan_offers
        WHERE shop_id = $1 AND plan = $2 AND closed_at IS NULL
        """,
        shop_id,
        plan.handle,
    )
    assert row is not None
    return Offer(**row)


async def complete_offer(connection: Connection, shop_id: int, offer_id: int, *, number: int, url: str) -> None:
    """Write down where the merchant approves an offer."""
    await connection.execute(
        "UPDATE plan_offers SET subscription_id = $3, confirmation_url = $4 WHERE shop_id = $1 AND offer_id = $2",
        shop_id,
        offer_id,
        number,
        url,
    )


async def close_offers(connection: Connection, shop_id: int, offer_ids: Sequence[int]) -> None:
    """Make offers no more: they were answered, refused, or got lost."""
    await connection.execute(
        """
        UPDATE plan_offers SET closed_at = clock_timestamp()
        WHERE shop_id = $1 AND offer_id = ANY ($2::bigint[]) AND closed_at IS NULL
        """,
        shop_id,
        offer_ids,
    )
