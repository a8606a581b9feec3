"""Orders as Shopify's webhook orders/paid carries them: invented REST resources of about 3 kB."""

from __future__ import annotations

import json
import random
from datetime import datetime

CITIES = (("Leeds", "LS1 4AP"), ("Bristol", "BS1 5TR"), ("Cardiff", "CF10 1EP"), ("Glasgow", "G1 3SQ"))
GIVEN_NAMES = ("Amara", "Ben", "Chloe", "Dev", "Elif", "Finn", "Grace", "Hugo", "Ines", "Jonas")
FAMILY_NAMES = ("Adeyemi", "Brown", "Clarke", "Doyle", "Evans", "Fischer", "Green", "Hughes")
PRODUCTS = (("Linen shirt", 4900), ("Wool scarf", 3250), ("Canvas tote", 1800), ("Ribbed socks", 950))
SHOP_CURRENCY = "GBP"


def order_tail(draw: random.Random, moment: datetime) -> bytes:
    """Return everything of an order that follows its own numbers, closing brace included.

    An order's JSON is `order_front(...) + order_tail(...)`; many orders share a tail, so that a delivery
    costs little to prepare and every body is still distinct.
    """
    lines = [_line(draw, position) for position in range(2)]
    total = sum(price * quantity for _, price, quantity in lines)
    customer_id = 7_000_000_000_000 + draw.randrange(1_000_000)
    address = _address(draw)
    fields = {
        "created_at": moment.isoformat(timespec="seconds"),
        "processed_at": moment.isoformat(timespec="seconds"),
        "updated_at": moment.isoformat(timespec="seconds"),
        "cancelled_at": None,
        "closed_at": None,
        "currency": SHOP_CURRENCY,
        "presentment_currency": SHOP_CURRENCY,
        "taxes_included": True,
        "test": False,
        "financial_status": "paid",
        "fulfillment_status": None,
        "source_name": "web",
        "tags": "",
        "note": None,
        "browser_ip": "203.0.113.7",
        "landing_site": "/collections/autumn?utm_source=app",
        "referring_site": "",
        "payment_gateway_names": ["shopify_payments"],
        "current_total_price": _pounds(total),
        "total_price": _pounds(total),
        "total_price_set": _money(total),
        "subtotal_price": _pounds(total),
        "total_discounts": "0.00",
        "total_tax": _pounds(total // 6),
        "total_line_items_price": _pounds(total),
        "discount_codes": [],
        "contact_email": f"customer.{customer_id}@example.com",
        "customer": {
            "id": customer_id,
            "admin_graphql_api_id": f"gid://shopify/Customer/{customer_id}",
            "email": f"customer.{customer_id}@example.com",
            "first_name": address["first_name"],
            "last_name": address["last_name"],
            "state": "enabled",
            "verified_email": True,
            "tax_exempt": False,
            "currency": SHOP_CURRENCY,
            "tags": "app, loyalty",
        },
        "billing_address": address,
        "shipping_address": address,
        "line_items": [fields for fields, _, _ in lines],
        "refunds": [],
        "shipping_lines": [{"code": "Standard", "price": "0.00", "title": "Standard", "source": "shopify"}],
    }
    return json.dumps(fields, separators=(",", ":")).encode()[1:]


def order_front(number: int) -> bytes:
    """Return the beginning of the order with this number: the fields that no two orders share."""
    order_id = 5_000_000_000_000 + number
    return (
        f'{{"id":{order_id},"admin_graphql_api_id":"gid://shopify/Order/{order_id}",'
        f'"name":"#{1000 + number}","order_number":{1000 + number},"token":"{order_id:032x}",'
    ).encode()


def _line(draw: random.Random, position: int) -> tuple[dict[str, object], int, int]:
    """Return a line item with its unit price in pence and its quantity."""
    title, price = draw.choice(PRODUCTS)
    quantity = draw.randint(1, 3)
    product_id = 8_000_000_000_000 + draw.randrange(10_000)
    line_id = 13_000_000_000_000 + draw.randrange(1_000_000_000) * 10 + position
    return (
        {
            "id": line_id,
            "admin_graphql_api_id": f"gid://shopify/LineItem/{line_id}",
            "product_id": product_id,
            "variant_id": product_id + 30_000_000_000_000,
            "title": title,
            "name": title,
            "sku": f"SKU-{product_id % 10_000:04d}",
            "vendor": "Northlight",
            "quantity": quantity,
            "current_quantity": quantity,
            "fulfillable_quantity": quantity,
            "fulfillment_status": None,
            "gift_card": False,
            "requires_shipping": True,
            "taxable": True,
            "grams": 250,
            "price": _pounds(price),
            "price_set": _money(price),
            "total_discount": "0.00",
            "tax_lines": [{"title": "VAT", "rate": 0.2, "price": _pounds(price * quantity // 6)}],
            "discount_allocations": [],
        },
        price,
        quantity,
    )


def _address(draw: random.Random) -> dict[str, object]:
    city, postcode = draw.choice(CITIES)
    return {
        "first_name": draw.choice(GIVEN_NAMES),
        "last_name": draw.choice(FAMILY_NAMES),
        "address1": f"{draw.randint(1, 200)} Station Road",
        "city": city,
        "zip": postcode,
        "country": "United Kingdom",
        "country_code": "GB",
    }


def _pounds(pence: int) -> str:
    return f"{pence // 100}.{pence % 100:02d}"


def _money(pence: int) -> dict[str, dict[str, str]]:
    amount = {"amount": _pounds(pence), "currency_code": SHOP_CURRENCY}
    return {"shop_money": amount, "presentment_money": amount}
