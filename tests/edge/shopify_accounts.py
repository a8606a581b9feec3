"""A stand-in for a shop's Customer Account API on a loopback socket: discovery, keys, and the customer query."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT = "shp_client"
NONCE = "n-0S6_WzA2Mj"
#: Where the one shop is, as the simulator has it.
SHOP = "/shops/acme.myshopify.com"
#: The issuer of its id_tokens: Shopify's own, wherever the documents are.
ISSUER = "https://shopify.com/authentication/1"


class Accounts:
    """The customer accounts of one shop."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.keys = {"first": rsa.generate_private_key(65537, 2048)}
        self.customers: dict[str, str] = {"shcat_good": "gid://shopify/Customer/7"}
        #: What a path is answered with instead.
        self.instead: dict[str, tuple[int, bytes]] = {}
        self.calls: Counter[str] = Counter()

    def id_token(self, *, kid: str = "first", key: Any = None, algorithm: str = "RS256", **changes: object) -> str:  # noqa: ANN401 - keys of any kind
        now = int(time.time())
        usual = {"iss": ISSUER, "aud": CLIENT, "sub": "7", "nonce": NONCE, "iat": now, "exp": now + 300}
        claims = {name: value for name, value in (usual | changes).items() if value is not None}
        return jwt.encode(claims, key or self.keys[kid], algorithm=algorithm, headers={"kid": kid})

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        if path in self.instead:
            return self.instead[path]
        documents: dict[str, object] = {
            "/.well-known/openid-configuration": {"issuer": ISSUER, "jwks_uri": f"{self.url}/jwks"},
            "/.well-known/customer-account-api": {"graphql_api": f"{self.url}/graphql"},
            "/jwks": {"keys": [self._public(kid) for kid in self.keys]},
        }
        if path == "/graphql":
            customer = self.customers.get(headers.get("authorization", ""))
            if customer is None:
                return 401, b'{"errors":[{"message":"Unauthorized"}]}'
            return 200, orjson.dumps({"data": {"customer": {"id": customer}}})
        return 200, orjson.dumps(documents[path])

    def _public(self, kid: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.keys[kid].public_key()))
        return found | {"kid": kid, "use": "sig", "alg": "RS256"}


@asynccontextmanager
async def accounts() -> AsyncIterator[Accounts]:
    """Serve the accounts of a shop."""
    made = Accounts()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
            await reader.readexactly(int(headers.get("content-length", 0)))
            path = head[0].split(" ")[1].removeprefix(SHOP)
            made.calls[path] += 1
            status, body = made.answer(path, headers)
            writer.write(f"HTTP/1.1 {status} So\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side went first
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{SHOP}"
    async with server:
        yield made
