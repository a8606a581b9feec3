"""GET and POST /admin/api/plan: what a shop's plan is, what it uses of it, and choosing another."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sellflow.edge.idempotency import CurrentRequest
from sellflow.edge.merchant_sessions import CurrentMerchant, MerchantSession
from sellflow.edge.problems import Problem, problem_responses
from sellflow.errors import NotFoundError, TryLaterError
from sellflow.postgres.database import Connection
from sellflow.postgres.transactions import admin_transaction, shop_transaction
from sellflow.shopify.admin.errors import AdminError
from sellflow.shopify.tokens.errors import GrantRefusedError, NotInstalledError, ReinstallNeededError
from sellflow.shops.plans import billing_store, store, usage
from sellflow.shops.plans.models import AppBilling, Billing, Plan
from sellflow.shops.plans.offers import AlreadyPaidError, BillingError, NoBillingError, Offers, pricing_page

router = APIRouter(prefix="/admin/api", tags=["admin"])

PlanHandle = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class LimitsAnswer(BaseModel):
    """What a plan allows; null is no limit of the plan's own."""

    mobile_requests_per_second: float | None
    merchant_requests_per_second: float | None
    service_requests_per_second: float | None
    orders_per_month: int | None = Field(description="Orders beyond are taken all the same.")
    customers: int | None = Field(description="Customers beyond are kept all the same.")
    endpoints: int | None


class PriceAnswer(BaseModel):
    """What a plan costs."""

    amount: Decimal
    currency: str
    interval: Literal["EVERY_30_DAYS", "ANNUAL"]
    trial_days: int


class PlanAnswer(BaseModel):
    """A plan."""

    handle: str
    name: str
    description: str
    limits: LimitsAnswer
    features: list[str] = Field(description="Names of what it opens; * is everything.")
    price: PriceAnswer | None


class ChoiceAnswer(PlanAnswer):
    """A plan that can be had."""

    is_current: bool
    link: str | None = Field(description="Shopify's page where it is chosen; null: choose it by POST, if at all.")


class UsageAnswer(BaseModel):
    """What the shop used this month (UTC)."""

    since: datetime
    orders: int
    orders_counted_at: datetime | None
    orders_over: int = Field(description="Orders beyond the plan's number.")
    customers: int = Field(description="As of today's count.")
    customers_over: int = Field(description="Customers beyond the plan's number.")
    endpoints: int


class CurrentPlanAnswer(BaseModel):
    """The shop's plan."""

    plan: PlanAnswer
    billing: Literal["managed", "manual", "none"] = Field(description="How it is paid for; none: not through Shopify.")
    set_by: Literal["default", "operator", "released", "app_pricing", "subscription", "lapse"]
    effective_at: datetime | None
    trial_ends_at: datetime | None
    ends_at: datetime | None = Field(description="When it ends because nobody pays any more.")
    subscription_status: str | None = Field(description="Shopify's word on the subscription.")
    usage: UsageAnswer
    choices: list[ChoiceAnswer]


class WantedPlan(BaseModel):
    """The plan to have."""

    model_config = ConfigDict(extra="forbid")

    plan: PlanHandle


class WayAnswer(BaseModel):
    """Where to send the merchant, in the top window; null where nothing is left to do."""

    url: str | None


@router.get("/plan", summary="The shop's plan", responses=problem_responses(401, 403, 429, 503))
async def get_plan(request: Request, merchant: CurrentMerchant) -> CurrentPlanAnswer:
    """Return the shop's plan, what it used of it, and what else there is."""
    app = await _app_billing(request, merchant)
    async with admin_transaction(request.app.state.admin_pool, merchant.shop_id) as connection:
        return await _current(connection, merchant.shop_id, app)


async def _current(connection: Connection, shop_id: int, app: AppBilling) -> CurrentPlanAnswer:
    plan, used = await store.plan_of_shop(connection, shop_id), await usage.usage_of(connection, shop_id)
    held, last = await store.assignment_in_effect(connection, shop_id), await store.last_assignment(connection, shop_id)
    return CurrentPlanAnswer(
        plan=PlanAnswer(**_facts(plan)),
        billing=app.billing.value,
        set_by="default" if held is None else held.source.value,
        effective_at=held and held.effective_at,
        trial_ends_at=held and held.trial_ends_at,
        ends_at=last.effective_at if last is not None and last != held else None,
        subscription_status=await connection.fetchval("SELECT status FROM shop_billing WHERE shop_id = $1", shop_id),
        usage=UsageAnswer(
            since=used.since,
            orders=used.orders,
            orders_counted_at=used.counted_at,
            orders_over=_over(used.orders, plan.orders_per_month),
            customers=used.customers,
            customers_over=_over(used.customers, plan.customers),
            endpoints=used.endpoints,
        ),
        choices=[
            ChoiceAnswer(**_facts(each), is_current=each.handle == plan.handle, link=_link(app))
            for each in await store.list_plans(connection, archived=False)
        ],
    )


def _over(used: int, limit: int | None) -> int:
    return 0 if limit is None else max(0, used - limit)


def _link(app: AppBilling) -> str | None:
    return pricing_page(app) if app.billing is Billing.MANAGED else None


def _facts(plan: Plan) -> dict[str, Any]:
    price = None
    if plan.price is not None:
        price = {
            "amount": plan.price,
            "currency": plan.currency,
            "interval": plan.billing_interval,
            "trial_days": plan.trial_days,
        }
    return {
        "handle": plan.handle,
        "name": plan.name,
        "description": plan.description,
        "limits": {name: getattr(plan, name) for name in LimitsAnswer.model_fields},
        "features": list(plan.features),
        "price": price,
    }


@router.post(
    "/plan",
    summary="Choose a plan",
    response_model=WayAnswer,
    responses=problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 502, 503),
)
async def choose_plan(
    request: Request, merchant: CurrentMerchant, once: CurrentRequest, wanted: WantedPlan
) -> Response:
    """Return the page of Shopify's where the merchant agrees; the plan is the shop's when they have, not before.

    Chosen again, the same page is returned, with or without an `Idempotency-Key`.
    """
    way = WayAnswer(url=await _chosen(request, merchant, wanted.plan))

    async def work(connection: Connection) -> WayAnswer:
        await billing_store.ask_for_check(connection, [merchant.shop_id])
        return way

    return await once.run(merchant.caller, admin_transaction(request.app.state.admin_pool, merchant.shop_id), work)


async def _chosen(request: Request, merchant: MerchantSession, handle: str) -> str | None:
    offers: Offers = request.app.state.offers
    try:
        async with shop_transaction(request.app.state.web_pool, merchant.shop_id) as connection:
            plan = await store.find_plan(connection, handle)
        if plan.archived_at is not None:
            raise NotFoundError(f"there is no plan {handle!r}")
        return (await offers.choose(merchant.shop_id, plan, by=merchant.caller.name)).url
    except NoBillingError as error:
        raise Problem(403, error.code, str(error)) from error
    except AlreadyPaidError as error:
        raise Problem(409, error.code, str(error)) from error
    except BillingError as error:
        raise Problem(502, error.code, str(error)) from error
    except (NotInstalledError, ReinstallNeededError, GrantRefusedError) as error:
        detail = "Shopify takes no calls for this shop: open the app in Shopify's admin again."
        raise Problem(403, error.code, detail) from error
    except (AdminError, TryLaterError) as error:
        seconds = max(1, round(error.seconds)) if isinstance(error, TryLaterError) else 5
        detail = "Shopify does not answer just now; nothing was charged. Try again in a moment."
        raise Problem(503, error.code, detail, headers=[("retry-after", str(seconds))]) from error


async def _app_billing(request: Request, merchant: MerchantSession) -> AppBilling:
    async with shop_transaction(request.app.state.web_pool, merchant.shop_id) as connection:
        return await billing_store.app_billing(connection, merchant.shop_id)
