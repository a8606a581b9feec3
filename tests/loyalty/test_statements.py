"""What customers are shown of the ledger."""

from sellflow.loyalty.statements import read_balance
from sellflow.postgres.database import Pool
from sellflow.postgres.transactions import shop_transaction
from tests.conftest import Tenant


async def test_a_customer_who_never_bought_anything_has_nothing(web_pool: Pool, tenant: Tenant) -> None:
    async with shop_transaction(web_pool, tenant.shop_id) as connection:
        balance = await read_balance(connection, tenant.shop_id, 1)
    assert (balance.available, balance.pending) == (0, 0)
