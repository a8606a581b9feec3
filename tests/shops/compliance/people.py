"""Customers with data that is found wherever it is, and what Shopify sends of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.loyalty.orders import order, refund


@dataclass(frozen=True)
class Someone:
    """A customer."""

    customer_id: int
    name: str
    email: str
    phone: str
    street: str
    note: str

    @property
    def data(self) -> list[str]:
        """What must not be found any more."""
        return [str(self.customer_id), *self.name.split(), self.email, self.phone, self.street, self.note]

    @property
    def address(self) -> dict[str, Any]:
        first, last = self.name.split()
        return {"first_name": first, "last_name": last, "address1": self.street, "phone": self.phone}

    @property
    def customer(self) -> dict[str, Any]:
        """The customer as a resource."""
        first, last = self.name.split()
        return {
            "id": self.customer_id,
            "email": self.email,
            "first_name": first,
            "last_name": last,
            "phone": self.phone,
            "note": self.note,
            "default_address": self.address,
            "admin_graphql_api_id": f"gid://shopify/Customer/{self.customer_id}",
        }

    def order(self, order_id: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        """An order of theirs with all that Shopify says of them."""
        payload = order(order_id, customer=self.customer_id, email=self.email, phone=self.phone, note=self.note)
        payload |= {
            "customer": self.customer,
            "billing_address": self.address,
            "shipping_address": self.address,
            "contact_email": self.email,
            "note_attributes": [{"name": "gift for", "value": self.name}],
            "client_details": {"browser_ip": "203.0.113.9"},
        }
        payload["line_items"][0] |= {
            "name": f"Mug for {self.name}",
            "properties": [{"name": "say", "value": self.note}],
        }
        return payload | fields

    def refund(self, refund_id: int, order_id: int) -> dict[str, Any]:
        """A refund of such an order."""
        return refund(refund_id, order_id, note=f"{self.name} did not like it: {self.note}")

    def redact(self, domain: str, *orders: int) -> dict[str, Any]:
        """What Shopify sends to have them erased."""
        person = {"id": self.customer_id, "email": self.email, "phone": self.phone}
        return {"shop_id": 954889, "shop_domain": domain, "customer": person, "orders_to_redact": list(orders)}

    def data_request(self, domain: str, *orders: int) -> dict[str, Any]:
        """What Shopify sends where they want to know what is stored."""
        person = {"id": self.customer_id, "email": self.email, "phone": self.phone}
        return {
            "shop_id": 954889,
            "shop_domain": domain,
            "orders_requested": list(orders),
            "customer": person,
            "data_request": {"id": 9999},
        }


ZEPHYRINE = Someone(
    6940095545398,
    "Zephyrine Quillfeather",
    "zephyrine.quill@planted.example",
    "+15550109876",
    "77 Plantagenet Mews",
    "beware of the blue heron \u00e9",
)
ODALYS = Someone(
    6940095545777,
    "Odalys Brackenridge",
    "odalys@other.example",
    "+15550104444",
    "3 Umbrella Court",
    "ring twice at noon",
)
