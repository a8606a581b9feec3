"""shopify.app.toml: what Shopify has to know of an app, written from what the registry handles.

Subscriptions in this file hold for every shop that installs the app, and are never deleted for failures
(https://shopify.dev/docs/apps/build/cli-for-apps/app-configuration).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files

from sellflow.queue.topics import Subscription, matches

#: Shopify sends these to every public app, whatever it subscribes to; they stand apart in the file.
COMPLIANCE_TOPICS = ("customers/data_request", "customers/redact", "shop/redact")
PREFIX = "shopify."

#: Stands in the template for what differs between installations.
CLIENT_ID = "CLIENT_ID"
PUBLIC_URL = "https://sellflow.example.com"


def webhook_topics(subscriptions: Iterable[Subscription]) -> list[str]:
    """Return the topics of Shopify, such as orders/paid, that some handler is there for; compliance topics are not."""
    listed = list(subscriptions)
    declared = {topic for each in listed for topic in each.topics if topic.startswith(PREFIX)}
    patterns = [
        pattern for each in listed for handler in each.handlers for pattern in handler.patterns if pattern != "#"
    ]
    handled = {topic for topic in declared if any(matches(pattern, topic) for pattern in patterns)}
    return sorted({_webhook_topic(topic) for topic in handled} - set(COMPLIANCE_TOPICS))


def app_config(
    subscriptions: Iterable[Subscription],
    *,
    handle: str,
    client_id: str,
    public_url: str,
    scopes: Sequence[str],
    api_version: str,
) -> str:
    """Return the file for one app. `public_url` has no slash at its end."""
    return (
        files("sellflow.shops")
        .joinpath("shopify.app.toml.template")
        .read_text(encoding="utf-8")
        .replace("{handle}", handle)
        .replace("{client_id}", client_id)
        .replace("{public_url}", public_url)
        .replace("{scopes}", ",".join(scopes))
        .replace("{api_version}", api_version)
        .replace("{topics}", _listed(webhook_topics(subscriptions)))
        .replace("{compliance_topics}", _listed(COMPLIANCE_TOPICS))
    )


def _webhook_topic(topic: str) -> str:
    """Return Shopify's own name of a topic: the last word is what happened, those before it are the resource."""
    return topic.removeprefix(PREFIX).replace(".", "/")


def _listed(topics: Iterable[str]) -> str:
    return "".join(f'\n  "{topic}",' for topic in topics) + "\n"
