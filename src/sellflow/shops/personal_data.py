"""What apps, shops, their settings and compliance itself hold of people."""

from __future__ import annotations

from sellflow.postgres.personal_data import Holds, RoomData, Table

_END = "the end of a request"

PERSONAL_DATA = RoomData(
    room="shops",
    tables=(
        Table(name="shop_settings_changes", holds=Holds.SHOP, why="what a merchant set, and who did"),
        Table(name="shop_settings", holds=Holds.SHOP, why="what a merchant set"),
        Table(name="compliance_exports", holds=Holds.PERSONAL, why="files that customers asked for", goes_with=_END),
        Table(name="compliance_requests", holds=Holds.PERSONAL, why="whom they are about", goes_with=_END),
        Table(
            name="customers",
            holds=Holds.PERSONAL,
            why="who they are",
            erase="""
                DELETE FROM customers c USING subject s
                WHERE c.shop_id = s.shop_id AND c.customer_id = s.customer_id
            """,
            export="""
                SELECT c.* FROM subject s
                JOIN customers c ON c.shop_id = s.shop_id AND c.customer_id = s.customer_id
            """,
        ),
        Table(name="reconciliations", holds=Holds.SHOP, why="up to when it is complete"),
        Table(name="imports", holds=Holds.SHOP, why="how far they came"),
        Table(name="tombstones", holds=Holds.SHOP, why="keyed hashes of who was erased"),
        Table(name="compliance_progress", holds=Holds.INSTALLATION, why="how far the log was searched"),
        Table(name="plan_usage", holds=Holds.SHOP, why="numbers of orders"),
        Table(name="plan_offers", holds=Holds.SHOP, why="pages of Shopify's where a plan is agreed to, and who asked"),
        Table(name="shop_billing", holds=Holds.SHOP, why="what Shopify says of payments"),
        Table(name="shop_plans", holds=Holds.SHOP, why="which plan it has, and which operator said so"),
        Table(name="plans", holds=Holds.INSTALLATION, why="what merchants may"),
        Table(name="apps", holds=Holds.INSTALLATION, why="client ids and secrets"),
        Table(name="shops", holds=Holds.SHOP, why="domains", goes_with=_END),
    ),
)
