"""Topics and patterns: what a registry refuses, and that Python and pgmq route alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from sellflow.errors import ConfigurationError, UndeclaredTopicError
from sellflow.postgres.database import Connection, SessionConnection
from sellflow.queue.event_log import emit
from sellflow.queue.registry import Registry
from sellflow.queue.topics import EmittedEvent, Event, Outbox, Subscription, matches
from tests.conftest import Tenant

#: Asterisk: one word; number sign: anything, dots included.
PATTERNS = ["a.b", "a.*", "*.b", "*", "#", "a.#", "#.b", "a.*.c", "a.#.c", "*.*", "a-b.*", "a_b.#", "shopify.orders.*"]
TOPICS = ["a", "b", "a.b", "a.b.c", "a.c", "a.x.y.c", "x.b", "x.y.b", "a-b.c", "a_b.c.d", "aXb", "a.bc", "ab"]


async def nothing(_connection: Connection, _batch: Sequence[tuple[Event, Event]], _outbox: Outbox) -> None:
    """What the handlers here do."""


def subscription(queue: str, topics: Iterable[str] = (), **handlers: str) -> Subscription:
    """A subscription with a handler for each name, for the one pattern beside it."""
    made = Subscription(queue, dict.fromkeys(topics, "for a test"))
    for name, pattern in handlers.items():
        made.handler(pattern, name=name, parse=lambda event: event)(nothing)
    return made


def refused(*subscriptions: Subscription) -> str:
    """What a registry says to subscriptions that it refuses."""
    with pytest.raises(ConfigurationError) as refusal:
        Registry(subscriptions)
    return str(refusal.value)


def test_a_pattern_that_no_declared_topic_matches_is_refused() -> None:
    complaint = refused(subscription("q", ["shopify.orders.paid"], misspelt="shopify.order.*"))
    assert complaint == "queue q, handler misspelt: the pattern 'shopify.order.*' matches no declared topic"


def test_two_handlers_of_one_queue_may_not_want_the_same_topic() -> None:
    complaint = refused(subscription("q", ["a.b", "a.c"], special="a.b", rest="a.*"))
    assert "the handlers special and rest both match the topic a.b" in complaint


def test_a_queue_has_one_subscription() -> None:
    assert "queue q: 2 subscriptions" in refused(subscription("q", ["a"], h="a"), subscription("q", h="a"))


@pytest.mark.parametrize("queue", ["", "Upper", "1st", "with-hyphen", "with space", "q'; --", "é", "q" * 48, "q\n"])
def test_a_queue_needs_a_name_that_pgmq_and_sql_take_as_it_is(queue: str) -> None:
    assert "up to 47 lower-case letters, digits and _" in refused(subscription(queue, ["a"], h="a"))


@pytest.mark.parametrize("topic", ["", ".a", "a.", "a..b", "a b", "a.*", "a#", "a\n", "é", "t" * 256])
def test_a_topic_is_what_pgmq_takes_for_one(topic: str) -> None:
    assert f"{topic!r} is no topic" in refused(subscription("q", [topic, "a.b"], h="a.b"))


def test_a_topic_has_one_meaning() -> None:
    same, other = Subscription("same", {"sold": "for a test"}), Subscription("other", {"sold": "thrown away"})
    for each in (same, other):
        each.handler("sold", parse=lambda event: event)(nothing)
    seller = subscription("seller", ["sold"], h="sold")
    assert Registry([seller, same]).queues_of("sold") == ("seller", "same")
    assert "queue other declares the topic sold as 'thrown away', another domain as 'for a test'" in refused(
        seller, other
    )


def test_a_subscription_without_handlers_is_refused() -> None:
    assert "queue q: the subscription has no handler" in refused(subscription("q", ["a"]))


def test_a_handler_without_topics_is_refused() -> None:
    made = Subscription("q", {"a": "for a test"})
    made.handler(parse=lambda event: event)(nothing)
    assert refused(made) == "queue q, handler nothing: it names no topic to handle"


def test_handlers_of_one_queue_are_told_apart_by_name() -> None:
    made = Subscription("q", {"a": "for a test", "b": "for a test"})
    made.handler("a", parse=lambda event: event)(nothing)
    made.handler("b", parse=lambda event: event)(nothing)
    assert "queue q: 2 handlers are called nothing" in refused(made)


def test_a_handler_that_comes_after_the_registry_is_refused() -> None:
    late = subscription("q", ["a", "b"], h="a")
    Registry([late])
    Registry([late])  # more than one role of a process makes one
    with pytest.raises(ConfigurationError, match="queue q: the handler nothing comes too late"):
        late.handler("b", parse=lambda event: event)(nothing)


def test_a_handler_may_want_a_topic_that_another_domain_declares() -> None:
    buyer, seller = subscription("buyer", h="sold.*"), subscription("seller", ["sold.apples", "bought"], h="bought")
    registry = Registry([buyer, seller])
    assert registry.queues_of("sold.apples") == ("buyer",)


def test_a_topic_reaches_every_queue_with_a_handler_for_it_and_no_other() -> None:
    registry = Registry(
        [
            subscription("one", ["a.b", "a.c", "x", "y"], h="a.*"),
            subscription("two", h="a.c"),
            subscription("three", h="y"),
        ]
    )
    assert registry.queues_of("a.b") == ("one",)
    assert registry.queues_of("a.c") == ("one", "two")
    assert registry.queues_of("x") == ()


def test_asking_for_an_undeclared_topic_is_an_error() -> None:
    with pytest.raises(UndeclaredTopicError, match=r"no domain declares the topic 'a\.b'"):
        Registry([subscription("q", ["a"], h="a")]).queues_of("a.b")


def test_each_topic_finds_its_handler() -> None:
    two = subscription("q", ["a.b", "c.d"], one="a.*", other="c.d")
    found = [two.handler_for(topic) for topic in ("a.b", "c.d", "x")]
    assert [each and each.name for each in found] == ["one", "other", None]


def test_a_queue_may_handle_more_than_it_is_bound_to_from_the_start() -> None:
    flexible = Subscription("flexible", {"a.b": "", "a.c": ""}, binds=("a.c",))
    flexible.handler("#", parse=lambda event: event, name="h")(nothing)
    registry = Registry([flexible])
    assert (registry.queues_of("a.b"), registry.queues_of("a.c")) == ((), ("flexible",))
    assert flexible.handler_for("a.b") is not None


def test_the_domains_of_this_installation_fit_together(registry: Registry) -> None:
    assert registry.queues_of("shopify.orders.paid") == ("loyalty",)
    assert registry.queues_of("shopify.app.uninstalled") == ("shops",)
    assert registry.queues_of("loyalty.points.earned") == ()


async def test_a_declared_topic_that_nobody_listens_to_is_stored_and_counted(
    owner: SessionConnection, tenant: Tenant, registry: Registry
) -> None:
    def unrouted() -> float:
        return REGISTRY.get_sample_value("sellflow_events_unrouted_total", {"topic": "loyalty.points.earned"}) or 0

    before = unrouted()
    await emit(owner, registry, [EmittedEvent(tenant.shop_id, "loyalty.points.earned", "", b"{}")] * 2)
    assert unrouted() == before + 2
    assert await owner.fetchval("SELECT count(*) FROM events") == 2


async def test_emitting_an_undeclared_topic_stores_nothing(
    owner: SessionConnection, tenant: Tenant, registry: Registry
) -> None:
    events = [EmittedEvent(tenant.shop_id, topic, "", b"{}") for topic in ("loyalty.points.earned", "nobody.knows.it")]
    with pytest.raises(UndeclaredTopicError):
        await emit(owner, registry, events)
    assert await owner.fetchval("SELECT count(*) FROM events") == 0


async def test_python_and_pgmq_agree_on_every_pattern_and_topic(owner: SessionConnection, registry: Registry) -> None:
    async def routed(topic: str) -> set[str]:
        return {row["pattern"] for row in await owner.fetch("SELECT pattern FROM pgmq.test_routing($1)", topic)}

    await owner.execute("SELECT pgmq.create('patterns')")
    for pattern in PATTERNS:
        await owner.execute("SELECT pgmq.bind_topic($1, 'patterns')", pattern)
    for topic in [*TOPICS, *registry.topics]:
        assert await routed(topic) & set(PATTERNS) == {p for p in PATTERNS if matches(p, topic)}, topic


words = st.lists(st.text("ab-_", min_size=1, max_size=3), min_size=1, max_size=4)


@given(words)
def test_a_topic_matches_itself_its_stars_and_the_number_sign(parts: list[str]) -> None:
    topic = ".".join(parts)
    assert matches(topic, topic)
    assert matches(".".join("*" for _ in parts), topic)
    assert matches("#", topic)
    assert not matches(".".join("*" for _ in [*parts, ""]), topic)
