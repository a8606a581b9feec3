"""The guarded connection under attack: names, addresses and answers that mean harm."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from sellflow.queue.outgoing.addresses import AddressRefusedError, Allowance
from sellflow.queue.outgoing.http_target import (
    LONGEST_EXCERPT,
    NoAnswerError,
    Resolve,
    UnreachableError,
    post,
    resolve,
    trusted,
)
from sellflow.queue.outgoing.models import Answer
from tests.queue.outgoing.receiver import Receiver, answer, endless, never, receiving, rubbish, stalling

PUBLIC_ALONE = Allowance()
LOOPBACK_TOO = Allowance((ip_network("127.0.0.1/32"),))


def names(*answers: list[str]) -> Resolve:
    """Resolve any name to these addresses, each answer used once and the last for ever."""
    left = list(answers)

    async def lookup(_host: str, _port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return lookup


async def send(
    url: str, *, allowance: Allowance = PUBLIC_ALONE, within: float = 10.0, resolve: Resolve = resolve
) -> Answer:
    return await post(url, b"{}", {"webhook-id": "msg_1"}, allowance=allowance, timeout=within, resolve=resolve)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",  # 127.0.0.1 as one number
        "0177.0.0.1",  # in octal
        "0x7f.1",  # in hexadecimal, shortened
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",  # NAT64
        "[2002:7f00:1::]",  # 6to4
        "0.0.0.0",  # noqa: S104
        "[::]",
    ],
)
async def test_however_loopback_is_written_it_is_refused(receiver: Receiver, host: str) -> None:
    with pytest.raises((AddressRefusedError, UnreachableError)) as refused:
        await send(f"http://{host}:{receiver.port}/")
    # A system whose resolver does not know a notation says so itself.
    assert isinstance(refused.value, AddressRefusedError) or "known" in str(refused.value)
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],  # the metadata service of clouds
        ["10.0.0.1"],
        ["fe80::1%2"],
        ["93.184.215.14", "127.0.0.1"],  # one public address does not excuse the other
        ["127.0.0.1", "93.184.215.14"],
    ],
)
async def test_a_name_that_leads_inside_is_refused(receiver: Receiver, found: list[str]) -> None:
    with pytest.raises(AddressRefusedError, match="is not a public address"):
        await send(f"https://harmless.example:{receiver.port}/", resolve=names(found))
    assert receiver.connections == 0


async def test_a_name_is_resolved_once_and_the_connection_made_to_what_was_checked(receiver: Receiver) -> None:
    asked = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        # 127.0.0.2 is not listened on by anybody, nor allowed here.
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    url = f"http://rebinding.example:{receiver.port}/hooks"
    assert (await send(url, allowance=LOOPBACK_TOO, resolve=rebinding)).status == 200
    assert asked == ["rebinding.example"]
    assert receiver.requests[0].headers["host"] == f"rebinding.example:{receiver.port}"
    with pytest.raises(AddressRefusedError, match=r"127\.0\.0\.2"):
        await send(url, allowance=LOOPBACK_TOO, resolve=rebinding)


async def test_a_redirect_to_inside_is_not_followed(receiver: Receiver) -> None:
    async with receiving() as inside:
        receiver.answering = answer(302, location=inside.url)
        assert (await send(receiver.url, allowance=LOOPBACK_TOO)).status == 302
        assert inside.connections == 0


async def test_of_an_endless_answer_the_beginning_is_kept(receiver: Receiver) -> None:
    receiver.answering = endless
    said = await send(receiver.url, allowance=LOOPBACK_TOO)
    assert (said.status, len(said.excerpt)) == (200, LONGEST_EXCERPT)


async def test_an_answer_that_stalls_counts_by_its_status(receiver: Receiver) -> None:
    receiver.answering = stalling
    said = await send(receiver.url, allowance=LOOPBACK_TOO)
    assert (said.status, said.excerpt) == (200, "well,")


async def test_who_never_answers_is_given_up(receiver: Receiver) -> None:
    receiver.answering = never
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.2 s"):
        await send(receiver.url, allowance=LOOPBACK_TOO, within=0.2)
    assert len(receiver.requests) == 1


async def test_a_name_server_that_never_answers_is_given_up() -> None:
    async def silent(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(NoAnswerError):
        await send("https://silent.example/", within=0.2, resolve=silent)


async def test_who_speaks_another_protocol_is_unreachable(receiver: Receiver) -> None:
    receiver.answering = rubbish
    with pytest.raises(UnreachableError):
        await send(receiver.url, allowance=LOOPBACK_TOO)


async def test_nobody_listening_is_unreachable() -> None:
    async with receiving() as gone:
        pass
    with pytest.raises(UnreachableError, match=r"no connection, or a broken one: .+"):
        await send(gone.url, allowance=LOOPBACK_TOO)


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    async def unknown(_host: str, _port: int) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(UnreachableError, match="Name or service not known"):
        await send("https://nowhere.example/", resolve=unknown)


async def test_of_several_addresses_the_next_is_tried(receiver: Receiver) -> None:
    both = Allowance((ip_network("127.0.0.0/8"),))
    found = names(["127.0.0.2", "127.0.0.1"])
    assert (await send(f"http://several.example:{receiver.port}/", allowance=both, resolve=found)).status == 200


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def _trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    trusted.cache_clear()
    yield
    trusted.cache_clear()


@pytest.fixture
async def encrypted(authority: trustme.CA) -> AsyncIterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("shop.example").configure_cert(context)
    async with receiving(context) as found:
        yield found


@pytest.mark.usefixtures("_trusted")
async def test_a_certificate_is_checked_against_the_name_not_the_address(encrypted: Receiver) -> None:
    found = names(["127.0.0.1"])
    url = f"https://shop.example:{encrypted.port}/hooks"
    assert (await send(url, allowance=LOOPBACK_TOO, resolve=found)).status == 200
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        await send(f"https://other.example:{encrypted.port}/hooks", allowance=LOOPBACK_TOO, resolve=found)
    assert len(encrypted.requests) == 1


async def test_a_certificate_of_nobody_known_is_refused(encrypted: Receiver) -> None:
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        await send(f"https://shop.example:{encrypted.port}/", allowance=LOOPBACK_TOO, resolve=names(["127.0.0.1"]))
    assert encrypted.requests == []
