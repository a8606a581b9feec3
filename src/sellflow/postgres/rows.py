"""Rows as one JSON parameter, for set-based statements: `FROM json_to_recordset($1::json) AS r (…)`.

The driver looks into every value of an array parameter before it encodes it; one JSON text for all columns of a batch
costs a third of that in Python and about the same in Postgres.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson


def json_rows(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as a JSON array of objects; decimals become strings, so that their digits stay as they are."""
    return orjson.dumps(list(rows), default=str).decode()
