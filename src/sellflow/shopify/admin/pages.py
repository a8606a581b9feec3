"""Walks through a connection page by page, from wherever one stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.errors import TooExpensiveError, UnexpectedAnswerError
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.document import Document
from sellflow.shopify.documents.nodes import Node, Page

T = TypeVar("T", bound=BaseModel)
N = TypeVar("N", bound=Node)


@dataclass(frozen=True)
class Leaf(Generic[N]):
    """A page that was read. Whoever has dealt with it keeps `cursor`, to go on after it another time."""

    nodes: tuple[N, ...]
    cursor: str | None
    #: Nodes so far, this page's among them.
    total: int
    is_last: bool


#: Is told of each page that has been dealt with.
Progress = Callable[[int], Awaitable[None]]


async def read_pages(
    client: AdminClient,
    shop_id: int,
    document: Document[T],
    variables: Mapping[str, object],
    connection: Callable[[T], Page[N]],
    *,
    after: str | None = None,
    urgency: Urgency = Urgency.BACKGROUND,
    progress: Progress | None = None,
) -> AsyncIterator[Leaf[N]]:
    """Yield page after page of the connection that `connection` finds in an answer.

    The document takes $first and $after. Pages that are too expensive are asked for again at half the size.

    Raises
    ------
    AdminError
        If a page cannot be had; go on later with the last cursor.
    """
    first, total = variables["first"], 0
    assert isinstance(first, int)
    while True:
        try:
            answer = await client.fetch(
                shop_id, document, {**variables, "first": first, "after": after}, urgency=urgency
            )
        except TooExpensiveError:
            if first <= 1:
                raise
            first //= 2
            continue
        page = connection(answer)
        total += len(page.nodes)
        is_last = not page.page_info.has_next_page
        if not is_last and page.page_info.end_cursor in {None, after}:
            raise UnexpectedAnswerError(f"{document.name} has a next page and no cursor to it")
        after = page.page_info.end_cursor or after
        yield Leaf(page.nodes, after, total, is_last)
        if progress is not None:
            await progress(total)
        if is_last:
            return
