"""Topics and patterns: what a registry refuses, and that Python and pgmq route alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.errors import ConfigurationError, UndeclaredTopicError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.queue.event_log import emit
from sellflow.queue.topics import EmittedEvent, Event, Handler, Outbox, Registry, Subscription, matches
from sellflow.roles import build_registry
from tests.conftest import Tenant

#: Asterisk: one word; number sign: anything, dots included.
PATTERNS = ["a.b", "a.*", "*.b", "*", "#", "a.#", "#.b", "a.*.c", "a.#.c", "*.*", "a-b.*", "a_b.#", "shopify.orders.*"]
TOPICS = ["a", "b", "a.b", "a.b.c", "a.c", "a.x.y.c", "x.b", "x.y.b", "a-b.c", "a_b.c.d", "aXb", "a.bc", "ab"]


async def nothing(_c: Connection, _b: Sequence[tuple[Event, object]], _o: Outbox) -> Mapping[int, str]:
    return {}


def handler(name: str, *patterns: str) -> Handler:
    return Handler(name=name, patterns=patterns, parse=lambda event: event, apply=nothing)


def subscription(queue: str, topics: Sequence[str], *handlers: Handler) -> Subscription:
    return Subscription(queue=queue, topics=dict.fromkeys(topics, "for a test"), handlers=handlers)


def test_a_pattern_that_no_declared_topic_matches_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"handler misspelt: the pattern 'shopify\.order\.\*'"):
        Registry([subscription("q", ["shopify.orders.paid"], handler("misspelt", "shopify.order.*"))])


def test_a_handler_may_want_a_topic_that_another_domain_declares() -> None:
    registry = Registry(
        [subscription("buyer", [], handler("h", "sold.*")), subscription("seller", ["sold.apples", "sold.pears"])]
    )
    assert registry.queues_of("sold.apples") == ("buyer",)


def test_a_topic_reaches_every_queue_with_a_handler_for_it_and_no_other() -> None:
    registry = Registry(
        [
            subscription("one", ["a.b", "a.c"], handler("h", "a.*")),
            subscription("two", [], handler("h", "a.c")),
            subscription("three", ["x"]),
        ]
    )
    assert registry.queues_of("a.b") == ("one",)
    assert registry.queues_of("a.c") == ("one", "two")
    assert registry.queues_of("x") == ()


def test_asking_for_an_undeclared_topic_is_an_error() -> None:
    with pytest.raises(UndeclaredTopicError, match=r"no domain declares the topic 'a\.b'"):
        Registry([subscription("q", ["a"])]).queues_of("a.b")


def test_the_first_handler_that_matches_gets_the_event() -> None:
    two = subscription("q", ["a.b", "a.c"], handler("special", "a.b"), handler("rest", "a.*"))
    found = [two.handler_for(topic) for topic in ("a.b", "a.c", "x")]
    assert [each and each.name for each in found] == ["special", "rest", None]


def test_the_domains_of_this_installation_fit_together() -> None:
    registry = build_registry()
    assert registry.queues_of("shopify.orders.paid") == ("loyalty",)
    assert registry.queues_of("shopify.app.uninstalled") == ("shops",)
    assert registry.queues_of("loyalty.points.earned") == ()


async def test_emitting_an_undeclared_topic_stores_nothing(
    owner: SessionConnection, tenant: Tenant, registry: Registry
) -> None:
    events = [EmittedEvent(tenant.shop_id, topic, "", b"{}") for topic in ("loyalty.points.earned", "nobody.knows.it")]
    with pytest.raises(UndeclaredTopicError):
        await emit(owner, registry, events)
    assert await owner.fetchval("SELECT count(*) FROM events") == 0


async def test_python_and_pgmq_agree_on_every_pattern_and_topic(owner: SessionConnection) -> None:
    async def routed(topic: str) -> set[str]:
        return {row["pattern"] for row in await owner.fetch("SELECT pattern FROM pgmq.test_routing($1)", topic)}

    await owner.execute("SELECT pgmq.create('patterns')")
    for pattern in PATTERNS:
        await owner.execute("SELECT pgmq.bind_topic($1, 'patterns')", pattern)
    for topic in [*TOPICS, *build_registry().topics]:
        assert await routed(topic) & set(PATTERNS) == {p for p in PATTERNS if matches(p, topic)}, topic


words = st.lists(st.text("ab-_", min_size=1, max_size=3), min_size=1, max_size=4)


@given(words)
def test_a_topic_matches_itself_its_stars_and_the_number_sign(parts: list[str]) -> None:
    topic = ".".join(parts)
    assert matches(topic, topic)
    assert matches(".".join("*" for _ in parts), topic)
    assert matches("#", topic)
    assert not matches(".".join("*" for _ in [*parts, ""]), topic)
