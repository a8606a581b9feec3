"""What the models of all documents are made of."""

from __future__ import annotations

from decimal import Decimal
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Node(BaseModel):
    """An object of an answer: its fields are the selected ones, in our spelling."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


N = TypeVar("N", bound=Node)


class Reference(Node):
    """An object of which only the id is asked for."""

    id: str

    @property
    def number(self) -> int:
        """The id as webhooks and the REST API have it."""
        return number_of(self.id)


def number_of(gid: str) -> int:
    """Return the number at the end of a global id: 42 of gid://shopify/Order/42."""
    return int(gid.rsplit("/", 1)[-1].partition("?")[0])


class Money(Node):
    """An amount in the currency's own unit, not in cents."""

    amount: Decimal
    currency_code: str


class MoneyBag(Node):
    """An amount in the shop's currency, and in the one that the customer paid in."""

    shop_money: Money
    presentment_money: Money


class PageInfo(Node):
    """Where a connection goes on."""

    has_next_page: bool
    end_cursor: str | None


class Page(Node, Generic[N]):
    """A page of a connection."""

    nodes: tuple[N, ...]
    page_info: PageInfo


class UserError(Node):
    """Why a mutation did not do what was asked."""

    field: tuple[str, ...] | None
    message: str

    @property
    def kind(self) -> str:
        """Shopify's code of it, where it has one."""
        return str(getattr(self, "code", None) or "")


class CodedError(UserError):
    """One that has a code."""

    code: str | None


class Payload(Node):
    """The answer to a mutation."""

    user_errors: tuple[UserError, ...]
