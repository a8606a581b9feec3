"""Services: other programs that call with a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sellflow.edge.callers import Caller
from sellflow.edge.customer_tokens import unauthorized
from sellflow.edge.limits import Kind, Limits
from sellflow.edge.problems import Problem
from sellflow.edge.service_keys import Scope, find_key

bearer = HTTPBearer(auto_error=False, scheme_name="service", description="A service key, from `sellflow keys add`")


@dataclass(frozen=True, slots=True)
class ServiceSession:
    """A service whose key has the scope that the route asks for."""

    key_id: str
    name: str
    shop_id: int | None
    scopes: frozenset[str]

    @property
    def caller(self) -> Caller:
        """Who it is for routes that serve merchants as well."""
        return Caller(self.shop_id, f"service:{self.key_id}")


def service_with(scope: Scope) -> Callable[..., Awaitable[ServiceSession]]:
    """Return the FastAPI dependency that lets in keys with this scope."""

    async def service_session(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> ServiceSession:
        if credentials is None:
            raise unauthorized("auth.missing_key", "Send a service key as `Authorization: Bearer sfk_…`.")
        key = await find_key(request.app.state.admin_pool, credentials.credentials)
        if key is None:
            raise unauthorized("auth.invalid_key", "The service key was refused: it is unknown, expired or revoked.")
        limits: Limits = request.app.state.limits
        await limits.take(Kind.SERVICE, key.shop_id)
        if scope not in key.scopes:
            raise Problem(403, "auth.missing_scope", f"The key {key.key_id} lacks the scope {scope}.")
        return ServiceSession(key.key_id, key.name, key.shop_id, key.scopes)

    return service_session


def CurrentService(scope: Scope) -> Any:  # noqa: N802, ANN401 - reads as the other callers' annotations do
    """Return what to annotate a parameter with: `Annotated[ServiceSession, CurrentService(Scope.…)]`."""
    return Depends(service_with(scope))
