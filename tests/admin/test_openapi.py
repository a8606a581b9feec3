"""The document describes what is served, and generated requests find nothing that it does not promise."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import (
    missing_required_header,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from sellflow.edge.service_keys import Scope
from sellflow.postgres.database import Database, SessionConnection
from tests.admin.conftest import Failures
from tests.conftest import Tenant
from tests.edge.callers import merchant, service
from tests.edge.serving import serving, with_settings

EXAMPLES = 12


def operations(document: dict[str, Any], *prefixes: str) -> list[tuple[str, str]]:
    return [
        (path, method) for path in document["paths"] if path.startswith(prefixes) for method in document["paths"][path]
    ]


async def test_every_route_is_tagged_secured_and_has_its_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schemathesis.openapi.from_dict(document).validate()
    for prefix, tag, scheme in (
        ("/admin/api/", "admin", "merchant"),
        ("/v1/dead-letters", "services", "service"),
        ("/v1/endpoints", "services", "service"),
        ("/v1/queues", "services", "service"),
        ("/v1/loyalty", "mobile", "customer"),
    ):
        found = operations(document, prefix)
        assert found
        for path, method in found:
            operation = document["paths"][path][method]
            assert operation["tags"] == [tag]
            assert operation["security"] == [{scheme: []}], (path, method)
            assert {"401", "429", "503"} <= set(operation["responses"]) or tag == "mobile"
            if method == "post":
                names = [each["name"] for each in operation["parameters"]]
                assert "Idempotency-Key" in names, path
    assert not [path for path in document["paths"] if path.startswith("/admin/") and not path.startswith("/admin/api/")]


@pytest.mark.parametrize("audience", ["merchant", "service", "nobody"])
async def test_generated_requests_find_nothing_that_the_document_does_not_promise(
    database: Database, owner: SessionConnection, failures: Failures, tenant: Tenant, audience: str
) -> None:
    for number in range(3):
        await failures.add(tenant, key=f"order:{number}")
    headers = {
        "merchant": merchant(tenant, exp=4_000_000_000),
        "service": await service(owner, *Scope),
        "nobody": {},
    }[audience]
    prefixes = {"merchant": ("/admin/api/",), "service": ("/v1/dead", "/v1/end", "/v1/qu"), "nobody": ("/mobile/",)}
    # Under the name by which the check of ignored authentication takes it away.
    shown = {name.title(): value for name, value in headers.items()}
    unlimited = with_settings(database, merchant_requests_per_second=0.0, service_requests_per_second=0.0)
    async with serving(unlimited) as client:
        document = (await client.get("/openapi.json")).json()
        found = operations(document, *prefixes[audience])
        assert found
        # It calls from threads of its own while the server runs on this loop.
        await asyncio.to_thread(_generate_requests, document, found, str(client.base_url), shown)
    assert await owner.fetchval("SELECT count(*) FROM endpoints WHERE shop_id <> $1", tenant.shop_id) == 0


def _generate_requests(
    document: dict[str, Any], found: list[tuple[str, str]], base_url: str, headers: dict[str, str]
) -> None:
    """Send generated requests for each operation and hold each answer against the document."""
    schema = schemathesis.openapi.from_dict(document)
    for path, method in found:
        operation = schema[path][method.upper()]

        @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def answers_as_promised(case: Any) -> None:  # noqa: ANN401 - theirs
            # No schema can say which ids and cursors are ours, nor that one of two fields is needed.
            case.call_and_validate(
                base_url=base_url,
                headers=headers,
                excluded_checks=[
                    positive_data_acceptance,
                    negative_data_rejection,
                    missing_required_header,
                    unsupported_method,
                ],
            )

        answers_as_promised()
