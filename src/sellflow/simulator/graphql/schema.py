"""Shopify's real Admin schema, loaded from the file that `make install` fetches, at the first call."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql import GraphQLSchema, build_client_schema

from sellflow.simulator.errors import SimulatorError

PACKAGE = "@shopify/dev-mcp@1.16.0"


class SchemaMissingError(SimulatorError):
    """The schema's file is not there: the message says how to get it."""

    code = "simulator.schema_missing"


@dataclass(frozen=True, slots=True)
class AdminSchema:
    """The schema and the mutations whose description demands `@idempotent`."""

    schema: GraphQLSchema
    needs_key: frozenset[str]


def load_schema(directory: Path, version: str) -> AdminSchema:
    """Load the schema of an API version.

    Raises
    ------
    SchemaMissingError
        If there is no file for it in `directory`.
    """
    path = directory / f"admin_{version}.json.gz"
    if not path.is_file():
        raise SchemaMissingError(
            f"the simulator answers GraphQL through Shopify's own schema, and {path} is not there: run 'make install' "
            f"in a checkout of Sellflow, or 'npm pack {PACKAGE}' anywhere and put package/dist/data/{path.name} out of "
            f"its archive into {directory} (or wherever SELLFLOW_SHOPIFY_SCHEMA_DIR points)"
        )
    reader = _Reader()
    with gzip.open(path) as file:
        document = json.loads(file.read(), object_hook=reader.read)
    schema = build_client_schema(document["data"], assume_valid=True)
    return AdminSchema(schema, frozenset(reader.needs_key))


class _Reader:
    """Reads the file with a third less memory: drops descriptions, and shares names and references to types.

    What a description demands is noted before it is dropped.
    """

    def __init__(self) -> None:
        self.needs_key: set[str] = set()
        self._references: dict[tuple[str, str | None, int], dict[str, Any]] = {}

    def read(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return an object of the file as it is to be kept."""
        description = found.pop("description", None)
        if description and "args" in found and demands_key(description):
            self.needs_key.add(found["name"])
        if "ofType" in found:
            return self._references.setdefault((found["kind"], found["name"], id(found["ofType"])), found)
        if isinstance(found.get("name"), str):
            found["name"] = sys.intern(found["name"])
        return found


def demands_key(description: str) -> bool:
    """Whether a field's description says that it must be called with `@idempotent`."""
    return "the idempotency key is required and must be provided using the `@idempotent`" in " ".join(
        description.split()
    )
