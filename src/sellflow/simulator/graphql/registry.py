"""Every simulated type, query and mutation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sellflow.simulator.graphql import (
    bulk,
    catalogue,
    customers,
    discounts,
    gift_cards,
    inventory,
    metafields,
    money_fields,
    order_parts,
    orders,
    records,
    refunds,
    shop_fields,
    stock,
    stock_changes,
    store_credit,
    subscriptions,
    tags,
)
from sellflow.simulator.graphql.fields import Fields, Types, find
from sellflow.simulator.models import Customer, Order, Shop

QUERIES: Fields[object] = {
    "shop": shop_fields.the_shop,
    "currentAppInstallation": shop_fields.current_installation,
    "appInstallation": shop_fields.current_installation,
    "webhookSubscriptions": shop_fields.webhook_subscriptions,
    "node": lambda _, call: find(call, call.arguments["id"]),
    "nodes": lambda _, call: [find(call, one) for one in call.arguments["ids"]],
    "orders": orders.all_orders,
    "order": orders.one_order,
    "refund": lambda _, call: orders.find_refund(call, call.arguments["id"]),
    "customers": customers.all_customers,
    "customer": customers.one_customer,
    "products": catalogue.all_products,
    "product": lambda _, call: catalogue.find_product(call, call.arguments["id"]),
    "productVariants": catalogue.all_variants,
    "productVariant": lambda _, call: catalogue.find_variant(call, call.arguments["id"]),
    "collections": catalogue.all_collections,
    "collection": lambda _, call: catalogue.find_collection(call, call.arguments["id"]),
    "locations": inventory.all_locations,
    "location": inventory.one_location,
    "inventoryItems": inventory.all_items,
    "inventoryItem": lambda _, call: inventory.find_item(call, call.arguments["id"]),
    "inventoryLevel": lambda _, call: inventory.find_level(call, call.arguments["id"]),
    "inventoryProperties": inventory.properties,
    "codeDiscountNode": lambda _, call: discounts.find_discount(call, call.arguments["id"]),
    "codeDiscountNodeByCode": discounts.by_code,
    "codeDiscountNodes": discounts.all_discounts,
    "giftCard": lambda _, call: gift_cards.find_card(call, call.arguments["id"]),
    "giftCards": gift_cards.all_cards,
    "storeCreditAccount": lambda _, call: store_credit.find_account(call, call.arguments["id"]),
    "bulkOperation": lambda _, call: bulk.find_operation(call, call.arguments["id"]),
    "bulkOperations": bulk.all_operations,
    "currentBulkOperation": bulk.current,
}

MUTATIONS: Fields[object] = {
    "inventoryAdjustQuantities": stock_changes.adjust,
    "inventorySetQuantities": stock_changes.set_quantities,
    "inventoryMoveQuantities": stock_changes.move,
    "inventoryActivate": stock_changes.activate,
    "discountCodeBasicCreate": discounts.creator(discounts.BASIC),
    "discountCodeFreeShippingCreate": discounts.creator(discounts.FREE_SHIPPING),
    "discountCodeDeactivate": discounts.deactivate,
    "discountCodeDelete": discounts.delete,
    "giftCardCreate": gift_cards.create,
    "giftCardDeactivate": gift_cards.deactivate,
    "storeCreditAccountCredit": store_credit.credit,
    "storeCreditAccountDebit": store_credit.debit,
    "metafieldsSet": metafields.set_metafields,
    "tagsAdd": tags.add,
    "tagsRemove": tags.remove,
    "appSubscriptionCreate": subscriptions.create,
    "appSubscriptionCancel": subscriptions.cancel,
    "bulkOperationRunQuery": bulk.run_query,
    "bulkOperationCancel": bulk.cancel,
}

_MODULES = (
    bulk,
    catalogue,
    customers,
    discounts,
    gift_cards,
    inventory,
    metafields,
    money_fields,
    orders,
    refunds,
    shop_fields,
    store_credit,
    subscriptions,
)

_NAMES: Mapping[type, str] = {
    Shop: "Shop",
    Order: "Order",
    Customer: "Customer",
    catalogue.Collection: "Collection",
    catalogue.ProductOf: "Product",
    catalogue.VariantOf: "ProductVariant",
    discounts.DiscountNode: "DiscountCodeNode",
    inventory.Adjustment: "InventoryAdjustmentGroup",
    inventory.Quantity: "InventoryQuantity",
    money_fields.Amount: "MoneyV2",
    order_parts.LineOf: "LineItem",
    order_parts.RefundOf: "Refund",
    order_parts.RefundedShippingOf: "RefundShippingLine",
    order_parts.TransactionOf: "OrderTransaction",
    records.BulkOperation: "BulkOperation",
    records.CreditAccount: "StoreCreditAccount",
    records.GiftCard: "GiftCard",
    records.Metafield: "Metafield",
    records.Subscription: "AppSubscription",
    shop_fields.Installation: "AppInstallation",
    shop_fields.TopicSubscription: "WebhookSubscription",
    stock.Item: "InventoryItem",
    stock.Level: "InventoryLevel",
    stock.Location: "Location",
}

_FINDERS = {
    "Shop": shop_fields.find_shop,
    "Order": orders.find_order,
    "Refund": orders.find_refund,
    "Customer": customers.find_customer,
    "Product": catalogue.find_product,
    "ProductVariant": catalogue.find_variant,
    "Collection": catalogue.find_collection,
    "InventoryItem": inventory.find_item,
    "InventoryLevel": inventory.find_level,
    "Location": inventory.find_location,
    "DiscountCodeNode": discounts.find_discount,
    "GiftCard": gift_cards.find_card,
    "StoreCreditAccount": store_credit.find_account,
    "AppSubscription": subscriptions.find_subscription,
    "BulkOperation": bulk.find_operation,
}


def build_types() -> Types:
    """Return the table of everything that is simulated."""
    fields: dict[str, Fields[Any]] = {"QueryRoot": QUERIES, "Mutation": MUTATIONS}
    for module in _MODULES:
        fields |= cast("Mapping[str, Fields[Any]]", module.FIELDS)
    return Types(fields, _NAMES, _FINDERS)


def type_name(value: object, call_types: Types) -> str | None:
    """Return the type of a value where the schema leaves it open."""
    if isinstance(value, dict):
        return cast("str | None", value.get("__typename"))
    if isinstance(value, records.CodeDiscount):
        return value.kind
    if isinstance(value, records.CreditTransaction):
        return store_credit.kind_of(value)
    if isinstance(value, order_parts.DiscountOf):
        return orders.application_kind(value)
    return call_types.names.get(type(value))
