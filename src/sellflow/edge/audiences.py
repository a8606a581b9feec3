"""Who the same routes are for: merchants, each of their own shop, and services, by what their keys may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from pydantic import AfterValidator, StringConstraints

from sellflow.edge.callers import Caller
from sellflow.edge.merchant_sessions import CurrentMerchant
from sellflow.edge.problems import Problem
from sellflow.edge.service_keys import Scope
from sellflow.edge.services import ServiceSession, service_with
from sellflow.errors import ConfigurationError


@dataclass(frozen=True)
class Audience:
    """Whom routes are for: where they are, and the dependencies that let a caller read and write."""

    prefix: str
    tag: str
    reads: Any
    writes: Any

    @property
    def is_merchants(self) -> bool:
        """Whether it is people, who are shown nothing of how we work inside."""
        return self.tag == "admin"


async def _merchant(merchant: CurrentMerchant) -> Caller:
    return merchant.caller


def _service(scope: Scope) -> Any:  # noqa: ANN401 - what FastAPI's Depends returns
    holder = Depends(service_with(scope))

    async def caller(service: ServiceSession = holder) -> Caller:
        return service.caller

    return Depends(caller)


def merchants(path: str) -> Audience:
    """Return the merchants of /admin/api/PATH."""
    return Audience(f"/admin/api/{path}", "admin", Depends(_merchant), Depends(_merchant))


def services(path: str, reads: Scope, writes: Scope) -> Audience:
    """Return the services of /v1/PATH whose keys have these scopes."""
    return Audience(f"/v1/{path}", "services", _service(reads), _service(writes))


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("holds a NUL character, which cannot be stored")
    return text


#: Words of a caller's own that are stored or compared.
Text = Annotated[str, StringConstraints(max_length=500), AfterValidator(_storable)]


@contextmanager
def refusals() -> Iterator[None]:
    """Answer with a problem where what was asked for is refused."""
    try:
        yield
    except ConfigurationError as error:
        # Advice for whoever sits at a terminal is left out.
        words = re.sub(r"[:;(,]? *`?sellflow [^`]*`?.*$|: SELLFLOW_.*$| \([^()]*SELLFLOW_[^()]*\)", "", str(error))
        raise Problem(400, "request.refused", f"{words[:1].upper()}{words[1:]}.") from error
