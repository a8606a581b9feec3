"""Reads the file of a bulk operation: line by line, however long it is, and each object with its children.

A line is an object; a child names its parent in `__parentId` and follows it (operations are started with
`groupObjects`). Of a file that breaks off, what was read already is skipped the next time.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from sellflow.errors import PermanentError
from sellflow.shopify.admin.errors import AdminError, NoAnswerError, NoConnectionError, ServerError
from sellflow.shopify.admin.transport import Transport

if TYPE_CHECKING:
    import httpx

#: Bytes of the longest line that is believed, and times in a row that a file may break off without a line more.
LONGEST_LINE = 16 * 1024 * 1024
ATTEMPTS = 5
FIRST_WAIT = 0.5

GZIP = b"\x1f\x8b"


class BrokenResultError(PermanentError):
    """The file of a bulk operation is not what it should be, or is no longer there: it is kept for seven days."""

    code = "shopify.bulk_result_broken"


@dataclass
class BulkObject:
    """An object with all that belongs to it. Whoever has dealt with it goes on after `next_line` another time."""

    id: str
    fields: dict[str, Any] = field(repr=False)
    children: list[BulkObject] = field(default_factory=list)
    next_line: int = 0

    @property
    def kind(self) -> str:
        """The type that the id names: Order in gid://shopify/Order/1."""
        return self.id.removeprefix("gid://shopify/").partition("/")[0]


async def read_objects(transport: Transport, url: str, *, skip: int = 0) -> AsyncGenerator[BulkObject, None]:
    """Yield a file's objects at the root, from the line after the first `skip`, one at a time in memory.

    Raises
    ------
    BrokenResultError
        If the file is gone, or makes no sense.
    NoAnswerError, NoConnectionError
        If it breaks off again and again: go on later with the last `next_line`.
    """
    root: BulkObject | None = None
    within: dict[str, BulkObject] = {}
    number = skip
    async with aclosing(read_lines(transport, url, skip=skip)) as lines:
        async for line in lines:
            found = _parsed(line, number + 1)
            parent = found.fields.pop("__parentId", None)
            if parent is None:
                if root is not None:
                    yield root
                root, within = found, {}
            elif parent not in within:
                raise BrokenResultError(f"line {number + 1} belongs to {parent}, which is not before it")
            else:
                within[parent].children.append(found)
            number += 1
            within[found.id] = found
            assert root is not None
            root.next_line = number
    if root is not None:
        yield root


def _parsed(line: bytes, number: int) -> BulkObject:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BrokenResultError(f"line {number} is no JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise BrokenResultError(f"line {number} is no object with an id")
    return BulkObject(found["id"], found)


async def read_lines(transport: Transport, url: str, *, skip: int = 0) -> AsyncGenerator[bytes, None]:
    """Yield a file's lines after the first `skip`, asking again for one that breaks off."""
    seen, failures = skip, 0
    while True:
        try:
            async with aclosing(_lines_once(transport, url)) as lines:
                number = 0
                async for line in lines:
                    number += 1
                    if number > seen:
                        seen, failures = number, 0
                        yield line
        except (NoAnswerError, NoConnectionError):
            failures += 1
            if failures >= ATTEMPTS:
                raise
        else:
            return
        await asyncio.sleep(random.uniform(0, FIRST_WAIT * 2**failures))  # noqa: S311 - jitter, not a secret


async def _lines_once(transport: Transport, url: str) -> AsyncGenerator[bytes, None]:
    # Not to Shopify but to where it stores files: no token goes there.
    async with transport.asking("GET", url, is_file=True) as response:
        if response.status_code != 200:
            raise _refusal(response.status_code)
        rest = b""
        async with aclosing(_unpacked(response)) as chunks:
            async for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if line.strip():
                        yield line
                if len(rest) > LONGEST_LINE:
                    raise BrokenResultError(f"a line is longer than {LONGEST_LINE} bytes")
        if rest.strip():
            yield rest


def _refusal(status: int) -> AdminError | BrokenResultError:
    if status >= 500 or status == 429:
        return ServerError(f"the file's store answered {status}")
    return BrokenResultError(f"the file cannot be had ({status}): results are kept for seven days")


async def _unpacked(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield a body unpacked: the library undoes what the headers say, this a file that is packed itself."""
    unpack: Any = None
    is_first = True
    async for chunk in response.aiter_bytes():
        if is_first:
            unpack = zlib.decompressobj(16 + zlib.MAX_WBITS) if chunk.startswith(GZIP) else None
            is_first = False
        if unpack is None:
            yield chunk
            continue
        try:
            yield unpack.decompress(chunk)
        except zlib.error as error:
            raise BrokenResultError("the file is packed, and its packing is broken") from error
    if unpack is not None and not unpack.eof:
        raise NoAnswerError("the packed file broke off")
