"""What every answer but a webhook's gets: headers that keep browsers in check, and a limit on what is sent to us.

No Access-Control-… header is ever sent: no other origin's page may read an answer (CORS is off).
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sellflow.edge.problems import Problem

#: Set where the route set none of its own. An answer is data: nothing in it is run, and no page may frame it.
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
TOO_LARGE = "request.too_large"


class Hardened:
    """An ASGI application with these headers and this limit."""

    def __init__(self, app: ASGIApp, *, largest_body: int) -> None:
        self._app = app
        self._largest = largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self._announced(scope) > self._largest:
            problem = Problem(413, TOO_LARGE, self._complaint(), headers=[("connection", "close")])
            await problem.response()(scope, receive, send_hardened)
        else:
            await self._app(scope, self._counted(receive), send_hardened)

    def _counted(self, receive: Receive) -> Receive:
        """Return `receive` with a limit, for bodies whose length was not announced, or not truthfully."""
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._largest:
                raise TooLargeError(self._complaint())
            return message

        return receive_counted

    def _complaint(self) -> str:
        return f"The body is larger than {self._largest} bytes."

    @staticmethod
    def _announced(scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value[:20])
        return 0


class TooLargeError(HTTPException):
    """More was sent than is accepted. FastAPI passes its own kind of error alone through its reading of a body."""

    code = TOO_LARGE

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail.rstrip("."), headers={"connection": "close"})
