"""Files of bulk operations: long ones, packed ones, broken ones."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from sellflow.shopify.admin.bulk_results import BrokenResultError, BulkObject, read_objects
from sellflow.shopify.admin.errors import NoAnswerError
from sellflow.shopify.admin.transport import Transport
from tests.shopify.admin.shopify_server import Asked, Shopify, Step, http, says


def line(kind: str, number: int, parent: str | None = None) -> bytes:
    made = {"id": f"gid://shopify/{kind}/{number}", "name": f"{kind} {number}"}
    return json.dumps(made | ({"__parentId": parent} if parent else {})).encode()


def gid(kind: str, number: int) -> str:
    return f"gid://shopify/{kind}/{number}"


FILE = b"\n".join(
    [
        line("Order", 1),
        line("LineItem", 11, gid("Order", 1)),
        line("LineItem", 12, gid("Order", 1)),
        line("Tax", 121, gid("LineItem", 12)),
        line("Order", 2),
        line("Order", 3),
        line("LineItem", 31, gid("Order", 3)),
    ]
)


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(api_version="2026-10", timeout=2.0)
    yield made
    await made.close()


def gives(body: bytes, *, only: int | None = None, **headers: str) -> Step:
    """Answer with a file, or with so many bytes of it, and break off."""

    async def step(_: Shopify, __: Asked, writer: asyncio.StreamWriter) -> None:
        if only is None:
            http(writer, 200, body, **headers)
            return
        writer.write(f"HTTP/1.1 200 So\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:only])
        await writer.drain()
        writer.close()

    return step


async def read(transport: Transport, shopify: Shopify, *, skip: int = 0) -> list[BulkObject]:
    return [each async for each in read_objects(transport, f"{shopify.url}/file.jsonl", skip=skip)]


@pytest.mark.conformance
@pytest.mark.parametrize(
    "step",
    [
        gives(FILE),
        gives(FILE + b"\n"),
        gives(gzip.compress(FILE)),
        gives(gzip.compress(FILE), content_encoding="gzip"),
        gives(FILE.replace(b"\n", b"\r\n")),
    ],
    ids=["plain", "with a last newline", "packed file", "packed on the way", "dos"],
)
async def test_children_are_with_their_parents(transport: Transport, shopify: Shopify, step: Step) -> None:
    shopify.script.append(step)
    first, second, third = await read(transport, shopify)
    assert [each.id for each in first.children] == [gid("LineItem", 11), gid("LineItem", 12)]
    assert [each.kind for each in first.children[1].children] == ["Tax"]
    assert second.children == []
    assert "__parentId" not in third.children[0].fields
    assert [each.next_line for each in (first, second, third)] == [4, 5, 7]


async def test_no_token_goes_where_the_file_is(transport: Transport, shopify: Shopify) -> None:
    shopify.script.append(gives(b""))
    assert await read(transport, shopify) == []
    assert "x-shopify-access-token" not in shopify.asked[0].headers


@pytest.mark.parametrize("line_number", [4, 5])
async def test_reading_goes_on_where_it_stopped(transport: Transport, shopify: Shopify, line_number: int) -> None:
    shopify.script.append(gives(FILE))
    found = await read(transport, shopify, skip=line_number)
    assert [each.id for each in found] == [gid("Order", 2), gid("Order", 3)][line_number - 4 :]


async def test_a_file_that_breaks_off_is_asked_for_again_and_nothing_comes_twice(
    transport: Transport, shopify: Shopify
) -> None:
    packed = gzip.compress(FILE)
    shopify.script.extend([gives(FILE, only=120), says(503), gives(packed, only=len(packed) // 2), gives(FILE)])
    found = await read(transport, shopify)
    assert [each.id for each in found] == [gid("Order", 1), gid("Order", 2), gid("Order", 3)]
    assert [len(each.children) for each in found] == [2, 0, 1]


async def test_a_file_that_never_gets_further_is_given_up(
    transport: Transport, shopify: Shopify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sellflow.shopify.admin.bulk_results.FIRST_WAIT", 0.01)
    shopify.script.extend([gives(FILE, only=120)] * 9)
    with pytest.raises(NoAnswerError):
        await read(transport, shopify)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (gives(b"{}"), "line 1 is no object with an id"),
        (gives(line("Order", 1) + b"\n{"), "line 2 is no JSON"),
        (gives(line("LineItem", 1, gid("Order", 9))), "belongs to gid://shopify/Order/9, which is not before it"),
        (gives(b"\x1f\x8bnot packed at all"), "packing is broken"),
        (says(403), r"cannot be had \(403\)"),
        (says(404), "seven days"),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused(
    transport: Transport, shopify: Shopify, step: Step, words: str
) -> None:
    shopify.script.append(step)
    with pytest.raises(BrokenResultError, match=words):
        await read(transport, shopify)


async def test_of_a_long_file_little_is_in_memory(transport: Transport, shopify: Shopify) -> None:
    """The sender is held up until somebody reads on: there is nowhere else for the file to be."""
    written = 0

    async def endless(_: Shopify, __: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS, level=0)
        writer.write(b"HTTP/1.1 200 So\r\n\r\n")
        for number in range(2_000_000):
            part = packer.compress(line("Customer", number) + b"\n")
            written += len(part)
            writer.write(part)
            await writer.drain()

    shopify.script.append(endless)
    objects = read_objects(transport, f"{shopify.url}/file.jsonl")
    for _ in range(100):
        await anext(objects)
    await objects.aclose()
    assert written < 64 * 1024 * 1024
