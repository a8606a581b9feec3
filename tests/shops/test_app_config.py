"""shopify.app.toml says what the registry handles, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sellflow.queue.registry import Registry
from sellflow.queue.topics import Subscription
from sellflow.settings import Settings
from sellflow.shops.app_config import CLIENT_ID, COMPLIANCE_TOPICS, PUBLIC_URL, app_config, webhook_topics

TEMPLATE = Path(__file__).parents[2] / "docs/shopify.app.toml"


def written(registry: Registry, settings: Settings, *, handle: str = "sellflow") -> str:
    return app_config(
        registry.subscriptions.values(),
        handle=handle,
        client_id=CLIENT_ID,
        public_url=PUBLIC_URL,
        scopes=settings.shopify_scopes.split(","),
        api_version=settings.shopify_api_version,
    )


def test_the_file_in_the_documentation_is_what_the_command_writes(registry: Registry, settings: Settings) -> None:
    assert TEMPLATE.read_text(encoding="utf-8") == written(registry, settings), (
        "what Sellflow handles has changed: write docs/shopify.app.toml anew with "
        "`python -m tests.shops.test_app_config`"
    )


def test_every_topic_that_a_handler_is_there_for_is_subscribed_to(registry: Registry, settings: Settings) -> None:
    found = tomllib.loads(written(registry, settings))
    subscribed, compliance = found["webhooks"]["subscriptions"]
    declared = {topic for topic in registry.topics if topic.startswith("shopify.")}
    handled = {
        topic.removeprefix("shopify.").replace(".", "/")
        for topic in declared
        if any(queue != "outgoing" for queue in registry.queues_of(topic))
    }
    assert set(subscribed["topics"]) == handled - set(COMPLIANCE_TOPICS)
    assert {"app/uninstalled", "app/scopes_update", "orders/paid", "refunds/create"} <= set(subscribed["topics"])
    assert tuple(compliance["compliance_topics"]) == COMPLIANCE_TOPICS
    assert subscribed["uri"] == compliance["uri"] == f"{PUBLIC_URL}/webhooks/shopify/sellflow"


@pytest.mark.conformance
def test_the_file_is_one_that_shopifys_command_line_reads(registry: Registry, settings: Settings) -> None:
    found = tomllib.loads(written(registry, settings))
    assert {"name", "client_id", "application_url", "embedded"} <= set(found)
    assert found["webhooks"]["api_version"] == settings.shopify_api_version
    assert found["access_scopes"]["scopes"].split(",") == settings.shopify_scopes.split(",")
    assert found["auth"]["redirect_urls"] == [f"{PUBLIC_URL}/auth/shopify/sellflow/callback"]
    assert all(re.fullmatch(r"[a-z_]+/[a-z_]+", t) for t in found["webhooks"]["subscriptions"][0]["topics"])
    assert found["app_proxy"]["prefix"] in ("a", "apps", "community", "tools")


def test_a_service_of_ones_own_adds_what_it_listens_to() -> None:
    own = Subscription("own", {"shopify.products.update": "a product changed", "own.done": "it is done"})
    own.handler("shopify.products.*", "own.done", parse=lambda _: None)(lambda *_: None)  # type: ignore[arg-type]
    assert webhook_topics([own]) == ["products/update"]


if __name__ == "__main__":  # writes the file of the documentation anew
    from sellflow.roles import build_registry
    from sellflow.settings import load_settings

    loaded = load_settings(environment="test")
    TEMPLATE.write_text(written(build_registry(loaded), loaded), encoding="utf-8")
