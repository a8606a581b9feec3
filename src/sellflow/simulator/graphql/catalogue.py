"""Products, variants and collections, as the shop's catalogue has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.connections import page, plain_page
from sellflow.simulator.graphql.fields import Call, Fields, Value, moment, number_of
from sellflow.simulator.graphql.metafields import METAFIELDS
from sellflow.simulator.graphql.money_fields import Amount
from sellflow.simulator.graphql.stock import AVAILABLE, ITEM_OFFSET
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Product, Variant
from sellflow.simulator.money import text

# Collections have no place in the simulator's catalogue: there is one of each vendor's products.
COLLECTION_OFFSET = 2**51


@dataclass(frozen=True, slots=True)
class ProductOf:
    """A product."""

    product: Product


@dataclass(frozen=True, slots=True)
class VariantOf:
    """A variant with its product."""

    product: Product
    variant: Variant


@dataclass(frozen=True, slots=True)
class Collection:
    """The products of one vendor."""

    id: int
    title: str
    products: tuple[Product, ...]


PRODUCTS: connections.Order[ProductOf] = connections.Order(
    number=lambda found: found.product.id,
    keys={"ID": lambda found: found.product.id, "TITLE": lambda found: found.product.title.lower()},
    search={
        "id": lambda found: found.product.id,
        "title": lambda found: found.product.title,
        "vendor": lambda found: found.product.vendor,
        "sku": lambda found: [one.sku for one in found.product.variants],
        "status": lambda _found: "active",
    },
)

VARIANTS: connections.Order[VariantOf] = connections.Order(
    number=lambda found: found.variant.id,
    keys={
        "ID": lambda found: found.variant.id,
        "SKU": lambda found: found.variant.sku,
        "POSITION": lambda found: found.product.variants.index(found.variant),
    },
    search={
        "id": lambda found: found.variant.id,
        "sku": lambda found: found.variant.sku,
        "product_id": lambda found: found.product.id,
        "title": lambda found: found.variant.title,
    },
)

COLLECTIONS: connections.Order[Collection] = connections.Order(
    number=lambda found: found.id,
    keys={"ID": lambda found: found.id, "TITLE": lambda found: found.title.lower()},
    search={"id": lambda found: found.id, "title": lambda found: found.title},
)


def products(call: Call) -> list[ProductOf]:
    """Return what the shop sells."""
    return [ProductOf(product) for product in call.world.shop.products]


def variants(call: Call) -> list[VariantOf]:
    """Return every variant that the shop sells."""
    return [VariantOf(one, variant) for one in call.world.shop.products for variant in one.variants]


def collections(call: Call) -> list[Collection]:
    """Return one collection a vendor."""
    sold = call.world.shop.products
    vendors = {product.vendor: product.id for product in reversed(sold)}
    return [
        Collection(first + COLLECTION_OFFSET, vendor, tuple(one for one in sold if one.vendor == vendor))
        for vendor, first in sorted(vendors.items())
    ]


def all_products(_source: object, call: Call) -> Value:
    """Resolve `products`."""
    return page(products(call), call, PRODUCTS)


def all_variants(_source: object, call: Call) -> Value:
    """Resolve `productVariants`."""
    return page(variants(call), call, VARIANTS)


def all_collections(_source: object, call: Call) -> Value:
    """Resolve `collections`."""
    return page(collections(call), call, COLLECTIONS)


def find_product(call: Call, identifier: str) -> ProductOf | None:
    """Return the product that an identifier names."""
    number = number_of(identifier, "Product")
    return next((found for found in products(call) if found.product.id == number), None)


def find_variant(call: Call, identifier: str) -> VariantOf | None:
    """Return the variant that an identifier names."""
    number = number_of(identifier, "ProductVariant")
    return next((found for found in variants(call) if found.variant.id == number), None)


def find_collection(call: Call, identifier: str) -> Collection | None:
    """Return the collection that an identifier names."""
    number = number_of(identifier, "Collection")
    return next((found for found in collections(call) if found.id == number), None)


def handle_of(title: str) -> str:
    """Return what a title is called in addresses."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _available(call: Call, *sold: Variant) -> int:
    levels: Iterator[int] = (
        level.quantity(AVAILABLE)
        for one in sold
        for level in call.world.admin.stock.levels(item_id=one.id + ITEM_OFFSET)
    )
    return sum(levels)


def _prices(found: ProductOf, call: Call) -> Value:
    prices = sorted(one.price for one in found.product.variants)
    currency = call.world.shop.currency
    return {
        "minVariantPrice": Amount(prices[0], currency),
        "maxVariantPrice": Amount(prices[-1], currency),
    }


def _in_collections(found: ProductOf, call: Call) -> Value:
    return page([one for one in collections(call) if found.product in one.products], call, COLLECTIONS)


PRODUCT: Fields[ProductOf] = {
    "id": lambda found, _: gid("Product", found.product.id),
    "legacyResourceId": lambda found, _: f"{found.product.id}",
    "title": lambda found, _: found.product.title,
    "handle": lambda found, _: handle_of(found.product.title),
    "vendor": lambda found, _: found.product.vendor,
    "description": lambda _found, _: "",
    "descriptionHtml": lambda _found, _: "",
    "productType": lambda _found, _: "",
    "status": lambda _found, _: "ACTIVE",
    "tags": lambda _found, _: [],
    "isGiftCard": lambda _found, _: False,
    "createdAt": lambda _found, call: moment(call.world.admin.opened_at),
    "updatedAt": lambda _found, call: moment(call.world.admin.opened_at),
    "publishedAt": lambda _found, call: moment(call.world.admin.opened_at),
    "totalInventory": lambda found, call: _available(call, *found.product.variants),
    "tracksInventory": lambda _found, _: True,
    "featuredImage": lambda _found, _: None,
    "featuredMedia": lambda _found, _: None,
    "onlineStoreUrl": lambda found, call: f"https://{call.world.domain}/products/{handle_of(found.product.title)}",
    "priceRangeV2": _prices,
    "collections": _in_collections,
    "variants": lambda found, call: page(
        [VariantOf(found.product, one) for one in found.product.variants], call, VARIANTS
    ),
    "variantsCount": lambda found, _: {"count": len(found.product.variants), "precision": "EXACT"},
}

VARIANT: Fields[VariantOf] = {
    "id": lambda found, _: gid("ProductVariant", found.variant.id),
    "legacyResourceId": lambda found, _: f"{found.variant.id}",
    "title": lambda found, _: found.variant.title,
    "displayName": lambda found, _: f"{found.product.title} - {found.variant.title}",
    "sku": lambda found, _: found.variant.sku,
    "barcode": lambda _found, _: None,
    "price": lambda found, call: text(found.variant.price, call.world.shop.currency),
    "compareAtPrice": lambda _found, _: None,
    "position": lambda found, _: found.product.variants.index(found.variant) + 1,
    "taxable": lambda _found, _: True,
    "inventoryPolicy": lambda _found, _: "DENY",
    "inventoryQuantity": lambda found, call: _available(call, found.variant),
    "availableForSale": lambda found, call: _available(call, found.variant) > 0,
    "inventoryItem": lambda found, call: call.world.admin.stock.items[found.variant.id + ITEM_OFFSET],
    "product": lambda found, _: ProductOf(found.product),
    "selectedOptions": lambda found, _: [{"name": "Size", "value": found.variant.title}],
    "createdAt": lambda _found, call: moment(call.world.admin.opened_at),
    "updatedAt": lambda _found, call: moment(call.world.admin.opened_at),
}

COLLECTION: Fields[Collection] = {
    "id": lambda found, _: gid("Collection", found.id),
    "legacyResourceId": lambda found, _: f"{found.id}",
    "title": lambda found, _: found.title,
    "handle": lambda found, _: handle_of(found.title),
    "description": lambda _found, _: "",
    "descriptionHtml": lambda _found, _: "",
    "sortOrder": lambda _found, _: "BEST_SELLING",
    "image": lambda _found, _: None,
    "updatedAt": lambda _found, call: moment(call.world.admin.opened_at),
    "productsCount": lambda found, _: {"count": len(found.products), "precision": "EXACT"},
    "products": lambda found, call: plain_page(
        [ProductOf(one) for one in found.products], call, lambda one: one.product.id
    ),
    "hasProduct": lambda found, call: number_of(call.arguments["id"], "Product") in {one.id for one in found.products},
}

FIELDS: Mapping[str, Fields[Any]] = {
    "Product": {**PRODUCT, **METAFIELDS},
    "ProductVariant": {**VARIANT, **METAFIELDS},
    "Collection": {**COLLECTION, **METAFIELDS},
}
