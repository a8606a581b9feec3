"""The signature of the query that Shopify sends a browser with: at an app's launch and at the end of an authorization.

The parameters but `hmac` and `signature` are sorted, percent-encoded, joined by & and signed with HMAC-SHA256 in
hexadecimal (https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/authorization-code-grant,
"Verify the installation request"). Shopify's Python library does not check these; its JavaScript one does, and
refuses timestamps more than 90 seconds away.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote

from sellflow.errors import SellflowError

#: Seconds that a signed query is good for, in either direction: clocks differ.
LIFETIME = 90
LONGEST_QUERY = 8192

#: Printable, and no # that would end it for some.
_QUERY = re.compile(r"[!-\x22$-~]*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
#: What JavaScript's encodeURIComponent leaves alone besides letters, digits and -_.~ : Shopify signs what it makes.
_SAFE = "!'()*"


class InvalidQueryError(SellflowError):
    """A query was not signed by Shopify, or not just now."""

    code = "shopify.invalid_query"


def sign_query(parameters: Mapping[str, str], secret: str) -> str:
    """Return the `hmac` of a query whose parameters, decoded, are these."""
    signed = "&".join(
        f"{_encoded(name)}={_encoded(parameters[name])}"
        for name in sorted(parameters)
        if name not in ("hmac", "signature")
    )
    return hmac.digest(secret.encode(), signed.encode(), "sha256").hex()


def verify_query(query: str, secrets: Sequence[str], *, now: float) -> dict[str, str]:
    """Return the parameters of a query string that Shopify signed within 90 seconds of `now` (Unix time).

    Raises
    ------
    InvalidQueryError
        If it is malformed, stale, unsigned, signed by somebody else, or says anything twice.
    """
    parameters = read_parameters(query)
    given = parameters.get("hmac", "")
    if not _DIGEST.fullmatch(given):
        raise InvalidQueryError("the query carries no hmac of 64 hexadecimal digits")
    check_timestamp(parameters.get("timestamp", ""), now=now)
    # Every secret is tried, so that the time taken does not tell which one fitted.
    verdicts = [hmac.compare_digest(given, sign_query(parameters, secret)) for secret in secrets]
    if not any(verdicts):
        raise InvalidQueryError("the query's hmac is not that of its parameters under the app's secret")
    return parameters


def read_parameters(query: str) -> dict[str, str]:
    """Return the decoded parameters of a query string.

    Raises
    ------
    InvalidQueryError
        If it is malformed, or says anything twice: whoever reads another of the two than was signed reads what an
        attacker wrote.
    """
    pairs = read_pairs(query)
    twice = sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    if twice:
        raise InvalidQueryError(f"the query says {', '.join(twice)[:100]!r} more than once")
    return dict(pairs)


def read_pairs(query: str) -> list[tuple[str, str]]:
    """Return the decoded parameters of a query string in their order.

    Raises
    ------
    InvalidQueryError
        If it is too long, is not UTF-8, or holds what a query cannot: readers do not agree on what that means.
    """
    if len(query) > LONGEST_QUERY:
        raise InvalidQueryError(f"the query is longer than {LONGEST_QUERY} characters")
    if not _QUERY.fullmatch(query):
        raise InvalidQueryError("the query holds characters that have to be percent-encoded")
    try:
        return parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="strict")
    except ValueError as error:
        raise InvalidQueryError("the query is not encoded as UTF-8") from error


def check_timestamp(text: str, *, now: float) -> None:
    """Make sure that a query's timestamp is a whole number of seconds, within 90 of `now`.

    Raises
    ------
    InvalidQueryError
        If it is not.
    """
    if not _TIMESTAMP.fullmatch(text):
        raise InvalidQueryError("the query's timestamp is not a whole number of seconds")
    if abs(now - int(text)) > LIFETIME:
        raise InvalidQueryError(
            f"the query was not signed within {LIFETIME} seconds of now; check this machine's clock"
        )


def _encoded(text: str) -> str:
    return quote(text, safe=_SAFE)
