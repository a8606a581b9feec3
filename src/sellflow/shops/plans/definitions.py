"""Plans as an operator writes them down: a TOML file, what would change, and changing it.

    [plans.pro]
    name = "Pro"
    price = 29.00
    currency = "USD"
    features = ["webhooks", "segments"]
    limits = { orders_per_month = 5000, endpoints = 10 }

What the file leaves out of a plan is as if it were new; plans that it does not name stay as they are.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from sellflow.errors import ConfigurationError
from sellflow.postgres.database import SessionConnection
from sellflow.shops.plans import store
from sellflow.shops.plans.models import Plan

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Handle = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Feature = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9][a-z0-9_.-]{0,62})$")]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
#: Values before and after of each that changes, by plan; a plan that is new has no values before.
Changes = dict[str, dict[str, tuple[Any, Any]]]


class LimitsSpec(BaseModel):
    """A plan's limits; what is left out is none, or for rates the installation's setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mobile_requests_per_second: Rate | None = None
    merchant_requests_per_second: Rate | None = None
    service_requests_per_second: Rate | None = None
    orders_per_month: Count | None = None
    customers: Count | None = None
    endpoints: Count | None = None


class PlanSpec(BaseModel):
    """One plan of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    description: Annotated[str, StringConstraints(max_length=1000)] = ""
    limits: LimitsSpec = LimitsSpec()
    features: tuple[Feature, ...] = ()
    price: Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)] | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    billing_interval: Literal["EVERY_30_DAYS", "ANNUAL"] | None = None
    trial_days: Annotated[int, Field(ge=0, le=1000)] = 0
    shopify_names: tuple[Name, ...] = ()
    position: Annotated[int, Field(ge=-1000, le=1000)] = 0
    is_default: bool = False

    @model_validator(mode="after")
    def _price_is_whole(self) -> PlanSpec:
        if (self.price is None) != (self.currency is None):
            raise ValueError("price and currency go together")
        if self.price is None and self.billing_interval is not None:
            raise ValueError("billing_interval is of a price")
        if self.price is not None and self.is_default:
            raise ValueError("the default plan costs nothing: nobody chose it")
        return self

    def values(self) -> dict[str, Any]:
        """Return the values as a plan has them."""
        own = self.model_dump(exclude={"limits"})
        if self.price is not None:
            own["billing_interval"] = self.billing_interval or "EVERY_30_DAYS"
        return own | self.limits.model_dump() | {name: list(own[name]) for name in ("features", "shopify_names")}


class PlansFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plans: dict[Handle, PlanSpec]


def read_plans(text: str) -> dict[str, PlanSpec]:
    """Return the plans of a file.

    Raises
    ------
    ConfigurationError
        If it is no such file, naming everything that is wrong with it.
    """
    try:
        return PlansFile.model_validate(tomllib.loads(text, parse_float=Decimal)).plans
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the file is no TOML: {error}") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError("\n".join(faults)) from error


def changed_spec(plan: Plan, **changes: object) -> PlanSpec:
    """Return a plan with some values changed: those of `limits` one by one, the others as they are given.

    Raises
    ------
    ConfigurationError
        If a value is refused.
    """
    limits = {name: getattr(plan, name) for name in LimitsSpec.model_fields} | dict(changes.pop("limits", None) or {})  # type: ignore[call-overload]
    values = {name: getattr(plan, name) for name in PlanSpec.model_fields if name != "limits"}
    try:
        return PlanSpec.model_validate({**values, **changes, "limits": limits})
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigurationError("; ".join(faults)) from error


def changes(existing: Mapping[str, Plan], wanted: Mapping[str, PlanSpec]) -> Changes:
    """Return what would change. Pure."""
    found: Changes = {}
    for handle, spec in wanted.items():
        plan, differences = existing.get(handle), {}
        for name, value in spec.values().items():
            before = None if plan is None else getattr(plan, name)
            before = list(before) if isinstance(before, list | tuple) else before
            if plan is None or before != value:
                differences[name] = (before, value)
        if plan is not None and plan.archived_at is not None:
            differences["archived"] = (True, False)
        if differences:
            found[handle] = differences
    return found


async def apply_plans(connection: SessionConnection, wanted: Mapping[str, PlanSpec]) -> Changes:
    """Make the plans what is written down, all or nothing; return what changed.

    Raises
    ------
    ConfigurationError
        If a plan is refused, or none would be the default.
    """
    defaults = [handle for handle, spec in wanted.items() if spec.is_default]
    if len(defaults) > 1:
        raise ConfigurationError(f"one plan is the default, not {', '.join(defaults)}")
    async with connection.transaction():
        # Two operators at once would each see what the other is about to change.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sellflow.plans'))")
        found = changes({plan.handle: plan for plan in await store.list_plans(connection)}, wanted)
        # The new default first: it takes the mark from the old one, which may be in the file as well.
        for handle in sorted(found, key=lambda each: not wanted[each].is_default):
            await store.put_plan(connection, handle, wanted[handle].values())
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM plans WHERE is_default)"):
            raise ConfigurationError("no plan would be the default: set is_default on another one in the same go")
    return found
