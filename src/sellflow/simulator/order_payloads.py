"""Orders as REST resources: the payload of every orders/… topic but orders/edited."""

from __future__ import annotations

from sellflow.simulator.customer_payloads import customer_of_order
from sellflow.simulator.ids import gid
from sellflow.simulator.line_payloads import (
    discount_applications,
    discount_codes,
    line_item,
    shipping_lines,
)
from sellflow.simulator.models import Order
from sellflow.simulator.money import ZERO, text
from sellflow.simulator.payload_parts import Json, moment, money_set, postal, priced, tax_lines
from sellflow.simulator.refund_payloads import refund_payload
from sellflow.simulator.totals import (
    current_totals,
    financial_status,
    original_totals,
    outstanding,
)

BROWSER = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"


def order_payload(order: Order) -> Json:
    """Return an Order with everything that happened to it so far."""
    return {
        **_identity(order),
        **_times(order),
        **_state(order),
        **_amounts(order),
        **_current_amounts(order),
        **_buyer(order),
        **_origin(order),
        "discount_codes": discount_codes(order),
        "discount_applications": discount_applications(order),
        "line_items": [line_item(order, line) for line in order.lines],
        "shipping_lines": shipping_lines(order),
        "tax_lines": tax_lines(order, original_totals(order).tax),
        "fulfillments": [],
        "refunds": [refund_payload(order, refund) for refund in order.refunds],
        "returns": [],
        "payment_terms": None,
    }


def _identity(order: Order) -> Json:
    return {
        "id": order.id,
        "admin_graphql_api_id": gid("Order", order.id),
        "name": order.name,
        "number": order.number - 1000,
        "order_number": order.number,
        "confirmation_number": order.token[:9].upper(),
        "token": order.token,
        "cart_token": order.token[::-1],
        "checkout_token": f"{order.token[16:]}{order.token[:16]}",
        "order_status_url": f"https://{order.domain}/{order.shop_id}/orders/{order.token}/authenticate",
    }


def _times(order: Order) -> Json:
    cancelled = moment(order.cancelled_at, order.market) if order.cancelled_at else None
    return {
        "created_at": moment(order.created_at, order.market),
        "processed_at": moment(order.created_at, order.market),
        "updated_at": moment(order.updated_at, order.market),
        "cancelled_at": cancelled,
        "closed_at": cancelled,
    }


def _state(order: Order) -> Json:
    return {
        "financial_status": financial_status(order).value,
        "fulfillment_status": None,
        "cancel_reason": order.cancel_reason,
        "confirmed": True,
        "test": False,
        "taxes_included": order.market.taxes_included,
        "tax_exempt": False,
        "estimated_taxes": False,
        "duties_included": False,
        "currency": order.exchange.shop,
        "presentment_currency": order.exchange.presentment,
        "payment_gateway_names": ["bogus"],
        "tags": order.tags,
        "note": None,
        "note_attributes": [],
    }


def _amounts(order: Order) -> Json:
    totals, exchange = original_totals(order), order.exchange
    return {
        **priced("total_line_items_price", totals.gross, exchange),
        **priced("total_discounts", totals.discounts, exchange),
        **priced("subtotal_price", totals.subtotal, exchange),
        **priced("total_tax", totals.tax, exchange),
        **priced("total_price", totals.total, exchange),
        "total_shipping_price_set": money_set(totals.shipping, exchange),
        "total_outstanding": text(outstanding(order).shop, exchange.shop),
        "total_tip_received": text(ZERO.shop, exchange.shop),
        "total_weight": sum(line.variant.grams * line.quantity for line in order.lines),
        "original_total_additional_fees_set": None,
        "original_total_duties_set": None,
        "total_cash_rounding_payment_adjustment_set": money_set(ZERO, exchange),
        "total_cash_rounding_refund_adjustment_set": money_set(ZERO, exchange),
    }


def _current_amounts(order: Order) -> Json:
    totals, exchange = current_totals(order), order.exchange
    return {
        **priced("current_total_discounts", totals.discounts, exchange),
        **priced("current_subtotal_price", totals.subtotal, exchange),
        **priced("current_total_tax", totals.tax, exchange),
        **priced("current_total_price", totals.total, exchange),
        "current_shipping_price_set": money_set(totals.shipping, exchange),
        "current_total_additional_fees_set": None,
        "current_total_duties_set": None,
    }


def _buyer(order: Order) -> Json:
    buyer, address = order.customer, postal(order.address)
    market, currency = order.market, order.exchange.shop
    return {
        "customer": customer_of_order(buyer, market, currency) if buyer else None,
        "email": order.email,
        "contact_email": order.email,
        "phone": None,
        "buyer_accepts_marketing": bool(buyer and buyer.accepts_marketing),
        "customer_locale": market.locale,
        "billing_address": address,
        "shipping_address": address,
        "company": None,
    }


def _origin(order: Order) -> Json:
    return {
        "app_id": 580111,
        "source_name": "web",
        "source_identifier": None,
        "source_url": None,
        "landing_site": "/",
        "landing_site_ref": None,
        "referring_site": "",
        "reference": None,
        "location_id": None,
        "device_id": None,
        "user_id": None,
        "po_number": None,
        "merchant_business_entity_id": None,
        "merchant_of_record_app_id": None,
        "browser_ip": "192.0.2.10",
        "client_details": {
            "accept_language": order.market.locale,
            "browser_height": None,
            "browser_ip": "192.0.2.10",
            "browser_width": None,
            "session_hash": None,
            "user_agent": BROWSER,
        },
    }
