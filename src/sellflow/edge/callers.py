"""Who a request acts for, whatever it showed to prove it: what routes, idempotency keys and audits go by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls, and whose rows they see: one shop's, or with `shop_id` None the whole installation's."""

    shop_id: int | None
    #: What audits and idempotency keys know it by, such as merchant:42 or service:k3j9x0a1b2c3.
    name: str

    @property
    def is_installation(self) -> bool:
        """Whether it is a service of the whole installation."""
        return self.shop_id is None
