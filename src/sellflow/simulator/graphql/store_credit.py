"""Store credit: a customer's account in the shop's currency. Transactions carry no reference of the app's own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sellflow.errors import NotFoundError
from sellflow.simulator.graphql import connections
from sellflow.simulator.graphql.connections import page, plain_page
from sellflow.simulator.graphql.fields import (
    Call,
    Fields,
    Value,
    decimal_of,
    moment,
    moment_of,
    moment_or_none,
    number_of,
    payload,
    refused,
    resource_of,
    user_error,
)
from sellflow.simulator.graphql.money_fields import Amount
from sellflow.simulator.graphql.records import CreditAccount, CreditTransaction
from sellflow.simulator.ids import gid
from sellflow.simulator.models import Customer
from sellflow.simulator.money import PER_DOLLAR, rounded

# Shopify does not publish an account's limit in every currency: of US dollars it is this many, and so here of each.
CREDIT_LIMIT = Decimal(100_000)

TRANSACTIONS: connections.Order[CreditTransaction] = connections.Order(
    number=lambda done: done.id,
    keys={"ID": lambda done: done.id, "CREATED_AT": lambda done: done.created_at},
    search={"id": lambda done: done.id, "created_at": lambda done: done.created_at},
)


def accounts_of(customer: Customer, call: Call) -> Value:
    """Resolve a customer's `storeCreditAccounts`."""
    found = [one for one in call.world.admin.credit.values() if one.customer_id == customer.id]
    return plain_page(found, call, lambda account: account.id)


def find_account(call: Call, identifier: str) -> CreditAccount | None:
    """Return the account that an identifier names."""
    return call.world.admin.credit.get(number_of(identifier, "StoreCreditAccount"))


def credit(_source: object, call: Call) -> Value:
    """Resolve `storeCreditAccountCredit`: `id` names an account, or a customer who gets one by it."""
    wanted = call.arguments["creditInput"]
    amount, currency = _money(wanted["creditAmount"])
    expires_at = moment_of(wanted["expiresAt"]) if wanted.get("expiresAt") else None
    account, error = _account(call, currency)
    if error is None and amount <= 0:
        message = "A positive amount must be used to credit a store credit account."
        error = _at("creditInput", "creditAmount", "amount", message=message, code="NEGATIVE_OR_ZERO_AMOUNT")
    if error is None and expires_at is not None and expires_at <= call.world.now:
        message = "The expiry date must be in the future."
        error = _at("creditInput", "expiresAt", message=message, code="EXPIRES_AT_IN_PAST")
    if error is None and account is not None and account.balance + amount > CREDIT_LIMIT:
        message = "The operation would cause the account's credit limit to be exceeded."
        error = _at("creditInput", "creditAmount", "amount", message=message, code="CREDIT_LIMIT_EXCEEDED")
    if error is not None or account is None:
        return refused(*([error] if error else []), storeCreditAccountTransaction=None)
    call.world.admin.credit[account.id] = account
    return payload(storeCreditAccountTransaction=_book(call, account, amount, expires_at))


def debit(_source: object, call: Call) -> Value:
    """Resolve `storeCreditAccountDebit`."""
    amount, currency = _money(call.arguments["debitInput"]["debitAmount"])
    account, error = _account(call, currency)
    if error is None and amount <= 0:
        message = "A positive amount must be used to debit a store credit account."
        error = _at("debitInput", "debitAmount", "amount", message=message, code="NEGATIVE_OR_ZERO_AMOUNT")
    if error is None and account is not None and account.balance < amount:
        message = "The store credit account does not have sufficient funds to satisfy the request."
        error = _at("debitInput", "debitAmount", "amount", message=message, code="INSUFFICIENT_FUNDS")
    if error is not None or account is None:
        return refused(*([error] if error else []), storeCreditAccountTransaction=None)
    return payload(storeCreditAccountTransaction=_book(call, account, -amount, None))


def _money(wanted: Mapping[str, Any]) -> tuple[Decimal, str]:
    currency = wanted["currencyCode"]
    amount = decimal_of(wanted["amount"])
    return (rounded(amount, currency) if currency in PER_DOLLAR else amount), currency


def _account(call: Call, currency: str) -> tuple[CreditAccount | None, Value | None]:
    """Return the account meant, one made for a customer's first credit among them, or why there is none."""
    if resource_of(call.arguments["id"]) == "StoreCreditAccount":
        account = find_account(call, call.arguments["id"])
        if account is None:
            return None, _at("id", message="The store credit account could not be found.", code="ACCOUNT_NOT_FOUND")
        return account, None if account.currency == currency else _mismatch(call)
    return _account_of_customer(call, currency)


def _account_of_customer(call: Call, currency: str) -> tuple[CreditAccount | None, Value | None]:
    try:
        customer = call.world.shopify.customer(call.world.domain, number_of(call.arguments["id"], "Customer"))
    except NotFoundError:
        return None, _no_owner(call)
    if currency not in PER_DOLLAR:
        message = "The currency provided is not currently supported."
        return None, _at("creditInput", "creditAmount", "currencyCode", message=message, code="UNSUPPORTED_CURRENCY")
    for account in call.world.admin.credit.values():
        if (account.customer_id, account.currency) == (customer.id, currency):
            return account, None
    if "debitInput" in call.arguments:
        return None, _no_owner(call)
    return CreditAccount(call.world.shopify.ids(), customer.id, currency), None


def _no_owner(call: Call) -> Value:
    if "debitInput" in call.arguments:
        return _at("id", message="The store credit account could not be found.", code="ACCOUNT_NOT_FOUND")
    return _at("id", message="Owner does not exist.", code="OWNER_NOT_FOUND")


def _mismatch(call: Call) -> Value:
    message = "The currency provided does not match the currency of the store credit account."
    side = "debit" if "debitInput" in call.arguments else "credit"
    return _at(f"{side}Input", f"{side}Amount", "currencyCode", message=message, code="MISMATCHING_CURRENCY")


def _at(*place: str, message: str, code: str) -> Value:
    return user_error(list(place), message, code)


def _book(call: Call, account: CreditAccount, amount: Decimal, expires_at: datetime | None) -> CreditTransaction:
    after = account.balance + amount
    done = CreditTransaction(call.world.shopify.ids(), account.id, amount, after, call.world.now, expires_at)
    account.transactions.append(done)
    return done


def kind_of(done: CreditTransaction) -> str:
    """Return the type of a transaction."""
    return "StoreCreditAccountCreditTransaction" if done.amount > 0 else "StoreCreditAccountDebitTransaction"


def _amount(done: CreditTransaction, call: Call, amount: Decimal) -> Amount:
    return Amount(amount, call.world.admin.credit[done.account_id].currency)


ACCOUNT: Fields[CreditAccount] = {
    "id": lambda account, _: gid("StoreCreditAccount", account.id),
    "balance": lambda account, _: Amount(account.balance, account.currency),
    "owner": lambda account, call: call.world.shopify.customer(call.world.domain, account.customer_id),
    "transactions": lambda account, call: page(account.transactions, call, TRANSACTIONS),
}

TRANSACTION: Fields[CreditTransaction] = {
    "id": lambda done, _: gid(kind_of(done), done.id),
    "account": lambda done, call: call.world.admin.credit[done.account_id],
    "amount": lambda done, call: _amount(done, call, done.amount),
    "balanceAfterTransaction": lambda done, call: _amount(done, call, done.balance_after),
    "createdAt": lambda done, _: moment(done.created_at),
    "event": lambda _done, _: "ADJUSTMENT",
    "origin": lambda _done, _: None,
}

FIELDS: Mapping[str, Fields[Any]] = {
    "StoreCreditAccount": ACCOUNT,
    "StoreCreditAccountDebitTransaction": TRANSACTION,
    "StoreCreditAccountCreditTransaction": {
        **TRANSACTION,
        "expiresAt": lambda done, _: moment_or_none(done.expires_at),
    },
}
