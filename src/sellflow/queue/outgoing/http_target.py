"""POSTs to addresses that others chose: the guarded connection.

The name is resolved once, every address it has is checked, and the connection is made to one of those checked, so
that no second resolution can lead elsewhere. TLS and the Host header keep the name. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING

from sellflow.errors import SellflowError
from sellflow.queue.outgoing.addresses import Allowance, check_all
from sellflow.queue.outgoing.models import Answer

if TYPE_CHECKING:
    import httpcore

#: Bytes of an answer that are read, and characters of it that are kept.
LONGEST_ANSWER = 4096
LONGEST_EXCERPT = 500

#: Seconds that the beginning of an answer may take after its status, which counts already.
LONGEST_READING = 1.0

#: Names that may be resolved at a time. The system's own resolver goes on when nobody waits for it any more.
RESOLVERS = 64

#: Returns every address of a name.
Resolve = Callable[[str, int], Awaitable[list[str]]]


class UnreachableError(SellflowError):
    """No connection could be made, or it broke before an answer came."""

    code = "outgoing.unreachable"


class NoAnswerError(SellflowError):
    """The endpoint did not answer in time."""

    code = "outgoing.no_answer"


async def resolve(host: str, port: int) -> list[str]:
    """Return every address of a name, as the system resolves it.

    Raises
    ------
    OSError
        If it has none.
    """
    lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_resolvers(), lookup)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@cache
def _resolvers() -> ThreadPoolExecutor:
    """Return threads for name resolution alone: each is lost for a while to a name server that does not answer."""
    return ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver")


async def post(
    url: str,
    body: bytes,
    headers: dict[str, str],
    *,
    allowance: Allowance,
    timeout: float,  # noqa: ASYNC109 - one limit for all of it, whatever the library's phases are
    resolve: Resolve = resolve,
) -> Answer:
    """POST once, on a connection of its own, and return the answer, whatever it is.

    Raises
    ------
    AddressRefusedError
        If the name leads to an address that is not allowed; nothing was sent then.
    UnreachableError
        If there was no connection, or it broke.
    NoAnswerError
        If no answer began within `timeout` seconds.
    """
    import httpcore  # noqa: PLC0415 - of all processes, only a worker that delivers needs it

    target = httpcore.URL(url)
    backend = guarded(allowance, resolve, encrypted=target.scheme == b"https", seconds=timeout)
    try:
        async with asyncio.timeout(timeout) as limit:
            connection = httpcore.AsyncHTTPConnection(target.origin, trusted(), network_backend=backend)
            async with (
                connection,
                connection.stream("POST", target, headers=list(headers.items()), content=body) as response,
            ):
                limit.reschedule(asyncio.get_running_loop().time() + 2 * LONGEST_READING)
                excerpt = await _beginning(response)
                found = {name.lower(): value for name, value in response.headers}
                return Answer(response.status, excerpt, found.get(b"retry-after", b"").decode("latin-1") or None)
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise NoAnswerError(f"no answer within {timeout:g} s") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
        raise UnreachableError(f"no connection, or a broken one: {_in_words(error)}") from error


async def _beginning(response: httpcore.Response) -> str:
    """Read the beginning of an answer: of one that never ends, or comes too slowly, as much as there is."""
    content = b""
    try:
        async with asyncio.timeout(LONGEST_READING):
            async for chunk in response.aiter_stream():
                content += chunk
                if len(content) >= LONGEST_ANSWER:
                    break
    except TimeoutError:
        pass
    return content[:LONGEST_ANSWER].decode("utf-8", "replace").replace("\x00", "")[:LONGEST_EXCERPT]


@cache
def trusted() -> ssl.SSLContext:
    """Return the context that checks certificates, against what the system trusts."""
    return ssl.create_default_context()


def _in_words(error: BaseException) -> str:
    """Return the error's own words, or those of what caused it."""
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def guarded(allowance: Allowance, resolve: Resolve, *, encrypted: bool, seconds: float) -> httpcore.AsyncNetworkBackend:
    """Return a network that reaches allowed addresses alone, and gives each an equal share of `seconds`."""
    import httpcore  # noqa: PLC0415

    class Guarded(httpcore.AnyIOBackend):
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,  # noqa: ASYNC109 - the library's own signature
            local_address: str | None = None,
            socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
        ) -> httpcore.AsyncNetworkStream:
            addresses = check_all(await resolve(host, port), allowance, encrypted=encrypted)
            share = seconds / len(addresses)
            for address in addresses[:-1]:
                try:
                    return await super().connect_tcp(str(address), port, share, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout):
                    continue  # the next one may answer
            return await super().connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    return Guarded()
