"""The webhook that tells of changed scopes."""

from __future__ import annotations

import orjson

from sellflow.simulator.ids import gid
from sellflow.simulator.models import Shop
from sellflow.simulator.notices import Notice
from sellflow.simulator.oauth.models import Application, Installation


def scopes_updated(app: Application, shop: Shop, before: Installation, after: Installation) -> Notice:
    """Tell what an app may do now, and what it could before."""
    payload = {
        "id": gid("App", app.id),
        "previous": before.scopes,
        "current": after.scopes,
        "updated_at": after.changed_at.isoformat(),
        "shop_id": shop.id,
    }
    return Notice("app/scopes_update", None, orjson.dumps(payload))
