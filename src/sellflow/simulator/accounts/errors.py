"""What keeps the Customer Account API from answering."""

from __future__ import annotations

from sellflow.errors import SellflowError


class SchemaMissingError(SellflowError):
    """The file of the schema is not there: the message says how to get it."""

    code = "simulator.customer_schema_missing"
