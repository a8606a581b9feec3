"""Inventing a shop: its market, products and customers, the same for the same seed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from sellflow.simulator.errors import RefusedError
from sellflow.simulator.ids import Ids
from sellflow.simulator.models import Address, App, Customer, Market, Product, Shop, Variant
from sellflow.simulator.money import exchange, rounded


def _market(title: str, rate: str, *, included: bool, hours: int, locale: str) -> Market:
    return Market(title, Decimal(rate), included, timezone(timedelta(hours=hours)), locale)


ELSEWHERE = _market("Sales Tax", "0.0825", included=False, hours=-5, locale="en-US")
MARKETS = {
    "EUR": _market("VAT", "0.19", included=True, hours=1, locale="de-DE"),
    "GBP": _market("VAT", "0.20", included=True, hours=0, locale="en-GB"),
    "CHF": _market("VAT", "0.081", included=True, hours=1, locale="de-CH"),
    "JPY": _market("CT", "0.10", included=True, hours=9, locale="ja-JP"),
    "AUD": _market("GST", "0.10", included=True, hours=10, locale="en-AU"),
    "CAD": _market("GST", "0.05", included=False, hours=-5, locale="en-CA"),
}

MATERIALS = ("Linen", "Merino", "Walnut", "Stoneware", "Canvas", "Brass", "Cork", "Denim", "Felt", "Oak")
THINGS = ("Shirt", "Mug", "Lamp", "Notebook", "Apron", "Blanket", "Tray", "Backpack", "Candle", "Scarf")
VENDORS = ("Northwind", "Fernhill", "Atelier Bleu", "Harbour & Co", "Kestrel")
SIZES = ("Small", "Medium", "Large")
FIRST_NAMES = (
    "Ada",
    "Bruno",
    "Chloé",
    "Dana",
    "Emre",
    "Freya",
    "Goran",
    "Hana",
    "Ines",
    "Jonas",
    "Kofi",
    "Lena",
)
LAST_NAMES = ("Abel", "Berg", "Costa", "Diaz", "Evans", "Fischer", "Garcia", "Huber", "Ito", "Jensen", "Kaya")
PLACES = (
    ("Springfield", "62701", "Illinois", "IL", "United States", "US"),
    ("Ottawa", "K1P 1J1", "Ontario", "ON", "Canada", "CA"),
    ("Hamburg", "20095", "Hamburg", "HH", "Germany", "DE"),
    ("Leeds", "LS1 4DY", "England", "ENG", "United Kingdom", "GB"),
    ("Osaka", "530-0001", "Osaka", "JP-27", "Japan", "JP"),
)


def invent_shop(domain: str, currency: str, app: App, *, products: int, ids: Ids, rng: random.Random) -> Shop:
    """Return a shop that sells `products` things.

    Raises
    ------
    RefusedError
        If the currency is unknown.
    """
    exchange(currency)
    return Shop(
        id=ids(),
        domain=domain,
        currency=currency,
        app=app,
        market=MARKETS.get(currency, ELSEWHERE),
        products=tuple(invent_product(currency, ids, rng) for _ in range(products)),
    )


def invent_product(currency: str, ids: Ids, rng: random.Random) -> Product:
    """Return a product with one to three variants, priced for its currency."""
    title = f"{rng.choice(MATERIALS)} {rng.choice(THINGS)}"
    dollars = Decimal(rng.randint(600, 18_000)) / 100
    price = rounded(dollars * exchange("USD", currency).rate, currency)
    stem = "-".join(word[:3].upper() for word in title.split())
    variants = tuple(
        Variant(ids(), size, f"{stem}-{size[0]}{rng.randint(100, 999)}", price, rng.randint(80, 2500))
        for size in SIZES[: rng.randint(1, 3)]
    )
    return Product(ids(), title, rng.choice(VENDORS), variants)


def invent_customer(ids: Ids, rng: random.Random, now: datetime) -> Customer:
    """Return a customer whose address cannot belong to anybody: example.com takes no mail (RFC 2606)."""
    address = invent_address(rng)
    number = ids()
    mailbox = f"{address.first_name}.{address.last_name}".lower().encode("ascii", "ignore").decode()
    return Customer(
        id=number,
        email=f"{mailbox}.{number % 1_000_000}@example.com",
        address_id=ids(),
        address=address,
        accepts_marketing=rng.random() < 0.6,
        created_at=now,
        updated_at=now,
    )


def invent_address(rng: random.Random) -> Address:
    """Return an address with a telephone number reserved for fiction."""
    city, postcode, province, province_code, country, country_code = rng.choice(PLACES)
    return Address(
        first_name=rng.choice(FIRST_NAMES),
        last_name=rng.choice(LAST_NAMES),
        street=f"{rng.randint(1, 240)} Example Street",
        city=city,
        postcode=postcode,
        province=province,
        province_code=province_code,
        country=country,
        country_code=country_code,
        phone=f"+1613555{rng.randint(100, 199):04d}",
    )


def find_variant(shop: Shop, variant_id: int) -> tuple[Product, Variant]:
    """Return a variant and its product.

    Raises
    ------
    RefusedError
        If the shop does not sell it.
    """
    for product in shop.products:
        for variant in product.variants:
            if variant.id == variant_id:
                return product, variant
    raise RefusedError(f"shop {shop.domain} sells no variant {variant_id}")
