"""How a merchant comes to pay: Shopify's pricing page, or a subscription that they approve on a page of Shopify's.

Shopify knows no keys for `appSubscriptionCreate`. It is sent once for an offer, and an offer is one for a shop and
plan however often it is asked for. Where nobody knows what became of it we look before another is made; a subscription
whose page nobody was shown charges nothing, and Shopify drops it after two days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from sellflow.errors import SellflowError
from sellflow.postgres.transactions import Transactions
from sellflow.secrets import Vault
from sellflow.shopify.admin.client import AdminClient
from sellflow.shopify.admin.stored_calls import CallFailedError, OutcomeUnknownError, StoredCalls, Wish
from sellflow.shopify.admin.throttle import Urgency
from sellflow.shopify.documents.installation import (
    APP_SUBSCRIPTION_CANCEL,
    APP_SUBSCRIPTION_CREATE,
    AppSubscriptionCreated,
)
from sellflow.shopify.documents.nodes import number_of
from sellflow.shops.plans import billing_store, rules
from sellflow.shops.plans.models import AppBilling, Billing, Offer, Plan
from sellflow.shops.plans.truth import Truth, read_truth

log = structlog.get_logger(__name__)


class BillingError(SellflowError):
    """A plan cannot be paid for."""

    code: ClassVar[str] = "billing.refused"


class NoBillingError(BillingError):
    """The app does not bill through Shopify."""

    code: ClassVar[str] = "billing.none"


class AlreadyPaidError(BillingError):
    """The shop's subscription to this plan runs already."""

    code: ClassVar[str] = "billing.already_paid"


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a merchant goes to pay; None where nothing is left to do."""

    url: str | None


def pricing_page(app: AppBilling) -> str:
    """Return the page of Shopify App Pricing where a merchant chooses among the app's plans.

    See https://shopify.dev/docs/apps/launch/billing/shopify-app-pricing.
    """
    store_handle = app.domain.removesuffix(".myshopify.com")
    return f"https://admin.shopify.com/store/{store_handle}/charges/{app.handle}/pricing_plans"


class Offers:
    """Makes offers and ends subscriptions, under whichever login `transactions` is of."""

    def __init__(self, client: AdminClient, vault: Vault, *, is_production: bool) -> None:
        self._client = client
        self._transactions: Transactions = client.transactions
        self._calls = StoredCalls(client, vault)
        self._is_production = is_production

    async def choose(self, shop_id: int, plan: Plan, *, by: str) -> Choice:
        """Return where the merchant goes to have a plan; a plan that costs nothing ends what is paid.

        Raises
        ------
        BillingError
            If the app does not bill, or Shopify refuses.
        AdminError
            If Shopify could not be asked; nothing was done.
        StillOpenError
            If another request is making the same offer just now.
        """
        async with self._transactions(shop_id) as connection:
            app = await billing_store.app_billing(connection, shop_id)
        if app.billing is Billing.NONE:
            raise NoBillingError("This app does not bill through Shopify: whoever runs it sets the plan.")
        if app.billing is Billing.MANAGED:
            return Choice(pricing_page(app))
        if plan.price is None and not plan.is_default:
            raise NoBillingError(f"{plan.name} cannot be bought: whoever runs the app sets it.")
        truth = await read_truth(self._client, shop_id, urgency=Urgency.FOREGROUND)
        if plan.price is None:
            await self._cancel(shop_id, truth)
            return Choice(None)
        return Choice(await self._offered(shop_id, plan, app, truth, by=by))

    async def _cancel(self, shop_id: int, truth: Truth) -> None:
        """End what runs. Shopify says no to a second time, and that is as good."""
        found = rules.running(truth.subscriptions)
        if found is None:
            return
        gid = f"gid://shopify/AppSubscription/{found.number}"
        wish = Wish(
            APP_SUBSCRIPTION_CANCEL, {"id": gid, "prorate": False}, purpose=f"plan_cancellations/{found.number}"
        )
        try:
            await self._calls.call(shop_id, wish, urgency=Urgency.FOREGROUND)
        except (CallFailedError, OutcomeUnknownError) as error:
            truth = await read_truth(self._client, shop_id, urgency=Urgency.FOREGROUND)
            still = rules.running(truth.subscriptions)
            if still is not None and still.number == found.number:
                async with self._transactions(shop_id) as connection:  # so that it can be asked for again
                    await self._calls.store_anew(connection, shop_id, wish)
                raise BillingError(f"Shopify did not end the subscription: {error}") from error

    async def _offered(self, shop_id: int, plan: Plan, app: AppBilling, truth: Truth, *, by: str) -> str:
        """Return where an offer is approved: of one that waits for that, else of a new one."""
        self._refuse_paid(plan, truth)
        for _ in range(2):
            async with self._transactions(shop_id) as connection:
                offer = await billing_store.open_offer(connection, shop_id, plan, by=by)
            if offer.confirmation_url is None:
                url = await self._make(shop_id, plan, app, truth, offer)
                if url is not None:
                    return url
            elif _waits(offer, truth):
                return offer.confirmation_url
            else:  # it was declined, or expired, or ended since
                await self._close(shop_id, offer)
            truth = await read_truth(self._client, shop_id, urgency=Urgency.FOREGROUND)
            self._refuse_paid(plan, truth)
        raise BillingError("Shopify does not say what became of the subscription: try again in a moment.")

    def _refuse_paid(self, plan: Plan, truth: Truth) -> None:
        found = rules.running(truth.subscriptions)
        if found is not None and rules.plan_of(found, [plan]) is not None:
            raise AlreadyPaidError(f"The subscription to {plan.name} runs already.")

    async def _make(self, shop_id: int, plan: Plan, app: AppBilling, truth: Truth, offer: Offer) -> str | None:
        """Have Shopify make the subscription of an offer; None where nobody knows whether it did."""
        wish = Wish(APP_SUBSCRIPTION_CREATE, self._terms(plan, app, truth), purpose=f"plan_offers/{offer.offer_id}")
        try:
            made: AppSubscriptionCreated = await self._calls.call(shop_id, wish, urgency=Urgency.FOREGROUND)
        except OutcomeUnknownError:
            await self._close(shop_id, offer)
            return None
        except CallFailedError as error:
            await self._close(shop_id, offer)
            said = "; ".join(each.message for each in error.complaints)
            raise BillingError(f"Shopify refused the subscription: {said}".rstrip(".") + ".") from error
        answer = made.app_subscription_create
        if answer is None or answer.app_subscription is None or answer.confirmation_url is None:
            await self._close(shop_id, offer)
            raise BillingError("Shopify made no subscription, and did not say why.")
        number = number_of(answer.app_subscription.id)
        async with self._transactions(shop_id) as connection:
            await billing_store.complete_offer(
                connection, shop_id, offer.offer_id, number=number, url=answer.confirmation_url
            )
        log.info("plans.offered", shop_id=shop_id, plan=plan.handle, subscription_id=number)
        return answer.confirmation_url

    def _terms(self, plan: Plan, app: AppBilling, truth: Truth) -> dict[str, Any]:
        price = {"amount": str(plan.price), "currencyCode": plan.currency}
        details = {"price": price, "interval": plan.billing_interval}
        return {
            "name": plan.name,
            "lineItems": [{"plan": {"appRecurringPricingDetails": details}}],
            # Back into Shopify's admin, where the app's page has a session of its own: nothing is taken on trust.
            "returnUrl": truth.launch_url,
            "test": app.is_test or not self._is_production,
            "trialDays": rules.trial_days(plan, truth.subscriptions) or None,
            "replacementBehavior": "STANDARD",
        }

    async def _close(self, shop_id: int, offer: Offer) -> None:
        async with self._transactions(shop_id) as connection:
            await billing_store.close_offers(connection, shop_id, [offer.offer_id])


def _waits(offer: Offer, truth: Truth) -> bool:
    return any(each.number == offer.subscription_id and each.status == "PENDING" for each in truth.subscriptions)
