"""Customers as REST resources, and the payload of app/uninstalled."""

from __future__ import annotations

from decimal import Decimal

from sellflow.simulator.ids import gid
from sellflow.simulator.models import Customer, Market, Shop
from sellflow.simulator.money import text
from sellflow.simulator.payload_parts import Json, moment, postal


def customer_payload(customer: Customer, shop: Shop) -> Json:
    """Return a Customer as customers/create and customers/update carry it."""
    address = default_address(customer)
    return customer_of_order(customer, shop.market, shop.currency) | {
        "orders_count": 0,
        "last_order_id": None,
        "last_order_name": None,
        "total_spent": text(Decimal(0), shop.currency),
        "addresses": [address],
        "accepts_marketing": customer.accepts_marketing,
        "marketing_opt_in_level": "single_opt_in" if customer.accepts_marketing else None,
        "email_marketing_consent": {
            "state": "subscribed" if customer.accepts_marketing else "not_subscribed",
            "opt_in_level": "single_opt_in",
            "consent_updated_at": None,
        },
        "sms_marketing_consent": None,
    }


def customer_of_order(customer: Customer, market: Market, currency: str) -> Json:
    """Return a Customer as an order embeds it."""
    return {
        "id": customer.id,
        "admin_graphql_api_id": gid("Customer", customer.id),
        "email": customer.email,
        "first_name": customer.address.first_name,
        "last_name": customer.address.last_name,
        "phone": None,
        "created_at": moment(customer.created_at, market),
        "updated_at": moment(customer.updated_at, market),
        "state": "disabled",
        "note": customer.note,
        "verified_email": True,
        "multipass_identifier": None,
        "tax_exempt": False,
        "tax_exemptions": [],
        "tags": customer.tags,
        "currency": currency,
        "default_address": default_address(customer),
    }


def default_address(customer: Customer) -> Json:
    """Return a customer's address with the identifiers that only customers' addresses have."""
    country = customer.address.country
    return postal(customer.address) | {
        "id": customer.address_id,
        "customer_id": customer.id,
        "country_name": country,
        "default": True,
    }


def uninstalled_payload(shop: Shop) -> Json:
    """Return the Shop that app/uninstalled carries."""
    return {
        "id": shop.id,
        "name": shop.domain.partition(".")[0],
        "email": f"owner@{shop.domain}",
        "domain": shop.domain,
        "myshopify_domain": shop.domain,
        "currency": shop.currency,
        "money_format": "{{amount}}",
        "taxes_included": shop.market.taxes_included,
        "primary_locale": shop.market.locale.partition("-")[0],
        "timezone": str(shop.market.timezone),
        "plan_name": "partner_test",
        "plan_display_name": "Developer Preview",
        "eligible_for_payments": True,
        "has_storefront": True,
        "password_enabled": False,
        "setup_required": False,
    }
