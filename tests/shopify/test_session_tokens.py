"""Session tokens: our verdict, that of Shopify's own library, and where ours is the stricter."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shopify_app.verify.app_home_req import verify_app_home_req

from sellflow.shopify.session_tokens import (
    InvalidSessionTokenError,
    SessionToken,
    StaleSessionTokenError,
    client_id_of,
    verify_session_token,
)

pytestmark = pytest.mark.conformance

CLIENT = "4f5c1d0e9b8a7f6e5d4c3b2a19080706"
SECRET = "a-secret-that-is-long-enough-for-hs256"
OLD = "the-secret-before-it-which-is-long-too"
STRANGER = "a-secret-that-belongs-to-somebody-else"

#: What `shopifyapp` lets through and we do not.
KNOWN_DIFFERENCE = "issuer and destination are not one shop"

Claims = dict[str, Any]


def claims(**changes: object) -> Claims:
    """What Shopify puts into a session token, with some changed; None leaves one out."""
    now = int(time.time())
    honest: Claims = {
        "iss": "https://acme.myshopify.com/admin",
        "dest": "https://acme.myshopify.com",
        "aud": CLIENT,
        "sub": "42",
        "exp": now + 60,
        "nbf": now,
        "iat": now,
        "jti": "f8912129-1af6-4cad-9ca3-76b0f7621087",
        "sid": "aaea182f2732d44c23057c0fea584021a4485b2bd25d3eb7fd349313ad24c685",
    }
    return {name: value for name, value in (honest | changes).items() if value is not None}


def signed(secret: str = SECRET, /, **changes: object) -> str:
    """A token with any claims: the library's own `encode` would refuse some of the rubbish."""
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), secret, "HS256")


def verify(token: str, *secrets: str) -> SessionToken:
    return verify_session_token(token, client_id=CLIENT, secrets=secrets or (SECRET,))


def refusal(token: str, *secrets: str) -> str:
    with pytest.raises(InvalidSessionTokenError) as caught:
        verify(token, *secrets)
    return str(caught.value)


def is_good_to_the_library(token: str, old: str | None = None) -> bool:
    request = {
        "method": "GET",
        "url": "https://a.example/",
        "headers": {"Authorization": f"Bearer {token}"},
        "body": "",
    }
    config = {"client_id": CLIENT, "client_secret": SECRET, "old_client_secret": old}
    return verify_app_home_req(request, config, "/patch").ok  # type: ignore[arg-type]


def test_an_honest_token_says_who_looks_at_which_shop() -> None:
    token = signed()
    found = verify(token)
    assert found == SessionToken(CLIENT, "acme.myshopify.com", 42, str(claims()["sid"]), token)
    assert token not in repr(found)


def test_a_token_names_its_app_before_it_is_verified() -> None:
    assert client_id_of(signed(STRANGER)) == CLIENT


@pytest.mark.parametrize("audience", [None, "", [], ["a", "b"], {}])
def test_a_token_that_names_no_app_chooses_no_secret(audience: object) -> None:
    token = signed(aud=audience)
    with pytest.raises(InvalidSessionTokenError, match="names no app"):
        client_id_of(token)


@pytest.mark.parametrize("seconds", [0, 5, 9])
def test_a_token_that_has_just_run_out_is_good_since_clocks_differ(seconds: int) -> None:
    now = int(time.time())
    assert verify(signed(exp=now - seconds + 1, nbf=now - 60, iat=now - 60))


@pytest.mark.parametrize("seconds", [12, 60, 3600])
def test_a_token_that_ran_out_is_stale(seconds: int) -> None:
    now = int(time.time())
    with pytest.raises(StaleSessionTokenError):
        verify(signed(exp=now - seconds, nbf=now - seconds - 60, iat=now - seconds - 60))


@pytest.mark.parametrize("seconds", [15, 60, 3600])
def test_a_token_from_the_future_is_refused(seconds: int) -> None:
    now = int(time.time())
    assert "invalid_id_token" in refusal(signed(nbf=now + seconds, exp=now + seconds + 60))


@pytest.mark.parametrize("audience", ["another-app", "", CLIENT.upper(), f"{CLIENT} ", [CLIENT]])
def test_a_token_for_another_app_is_refused(audience: object) -> None:
    assert "invalid_aud" in refusal(signed(aud=audience))


@pytest.mark.parametrize("name", ["iss", "dest", "sub", "exp", "nbf", "iat", "jti"])
def test_a_token_that_lacks_a_claim_is_refused(name: str) -> None:
    refused = refusal(signed(**{name: None}))
    assert name in refused or "claims are malformed" in refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", "someone"),
        ("sub", ""),
        ("sub", "-1"),
        ("sub", "9" * 19),
        ("sub", "42\n"),
        ("dest", 5),
        ("dest", ["https://acme.myshopify.com"]),
        ("dest", {}),
        ("iss", ""),
        ("iss", 5),
        ("jti", ""),
        ("jti", 7),
        ("sid", 7),
        ("exp", "soon"),
        ("exp", None),
        ("nbf", "now"),
        ("iat", "then"),
    ],
)
def test_a_claim_of_another_type_is_refused_and_no_error(name: str, value: object) -> None:
    refusal(signed(**{name: value}))


@pytest.mark.parametrize(
    "dest",
    [
        "https://evil.com",
        "https://acme.myshopify.com.evil.com",
        "https://evil.com/acme.myshopify.com",
        "https://acme.myshopify.com/admin",
        "https://acme.myshopify.com:443",
        "https://user@acme.myshopify.com",
        "http://acme.myshopify.com",
        "HTTPS://acme.myshopify.com",
        "acme.myshopify.com",
        "https://ACME.myshopify.com",
        "https://https://acme.myshopify.com",
        "javascript:alert(1)",
    ],
)
def test_a_token_for_no_shop_is_refused_though_it_is_signed(dest: str) -> None:
    refusal(signed(dest=dest, iss=f"{dest}/admin"))


@pytest.mark.parametrize(
    "iss",
    [
        "https://other.myshopify.com/admin",
        "https://acme.myshopify.com",
        "https://acme.myshopify.com/admin/",
        "http://acme.myshopify.com/admin",
        "https://acme.myshopify.com.evil.com/admin",
        "https://evil.com/https://acme.myshopify.com/admin",
        "acme.myshopify.com/admin",
    ],
)
def test_known_difference_issuer_and_destination_are_one_shop(iss: str) -> None:
    """`shopifyapp` looks at the destination alone."""
    token = signed(iss=iss)
    assert is_good_to_the_library(token)
    assert KNOWN_DIFFERENCE in refusal(token)


def forged(header: Claims, body: Claims, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "RS256", "HS512", "ES256", None, 5])
def test_no_other_algorithm_is_taken_than_the_one_that_shopify_signs_with(algorithm: object) -> None:
    refusal(forged({"alg": algorithm, "typ": "JWT"}, claims()))
    refusal(forged({"alg": algorithm, "typ": "JWT"}, claims(), b"signature"))


def test_a_token_that_another_hash_signed_is_refused() -> None:
    assert "invalid_id_token" in refusal(jwt.encode(claims(), SECRET * 2, "HS512"), SECRET * 2)


def test_a_changed_token_is_refused() -> None:
    header, body, signature = signed().split(".")
    other = signed(sub="43").split(".")[1]
    for token in (
        f"{header}.{other}.{signature}",
        f"{header}.{body}.{signature[:-2]}",
        f"{header}.{body}.",
        f"{header}.{body}",
        f"{header}.{body}.{signature}.",
        f" {header}.{body}.{signature}",
        f"{header}.{body}.{signature}\n",
        f"Bearer {header}.{body}.{signature}",
    ):
        refusal(token)


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b.c", "é.é.é", "\0", "a" * 5000, f"{'a' * 5000}.b.c", "e30.e30.e30"]
)
def test_rubbish_is_refused_and_no_error(token: str) -> None:
    refusal(token)
    with pytest.raises(InvalidSessionTokenError):
        client_id_of(token)


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_no_text_at_all_raises_anything_else(token: str) -> None:
    refusal(token)


def test_while_a_secret_is_rotated_both_are_good() -> None:
    for secret, verdict in ((SECRET, True), (OLD, True), (STRANGER, False)):
        token = signed(secret)
        assert is_good_to_the_library(token, OLD) is verdict
        if verdict:
            assert verify(token, SECRET, OLD)
        else:
            assert "invalid_id_token" in refusal(token, SECRET, OLD)


def test_without_the_previous_secret_its_tokens_are_refused() -> None:
    refusal(signed(OLD))


SHOPS = ["acme", "other"]
ages = st.sampled_from([0, 30, 65, 80, 3600, -5, -30])


@settings(max_examples=2000)
@given(
    signer=st.sampled_from([SECRET, OLD, STRANGER]),
    previous=st.sampled_from([OLD, None]),
    age=ages,
    audience=st.sampled_from([CLIENT, CLIENT, CLIENT, "another-app"]),
    issuer=st.sampled_from(SHOPS),
    destination=st.sampled_from(SHOPS),
    user=st.integers(1, 10**15),
    tamper=st.sampled_from(["", "", "", "body", "signature"]),
)
def test_the_verdict_is_that_of_shopifys_own_library_but_for_the_known_difference(
    *,
    signer: str,
    previous: str | None,
    age: int,
    audience: str,
    issuer: str,
    destination: str,
    user: int,
    tamper: str,
) -> None:
    now = int(time.time()) - age
    token = signed(
        signer,
        iss=f"https://{issuer}.myshopify.com/admin",
        dest=f"https://{destination}.myshopify.com",
        aud=audience,
        sub=str(user),
        iat=now,
        nbf=now,
        exp=now + 60,
    )
    header, body, signature = token.split(".")
    if tamper == "body":
        body = signed(sub=str(user + 1)).split(".")[1]
    elif tamper == "signature":
        signature = signed(signer, sub="0").split(".")[2]
    token = f"{header}.{body}.{signature}"
    theirs = is_good_to_the_library(token, previous)
    try:
        ours, reason = verify(token, *([SECRET, previous] if previous else [SECRET])).user_id == user, ""
    except InvalidSessionTokenError as error:
        ours, reason = False, str(error)
    if theirs and issuer != destination:
        assert KNOWN_DIFFERENCE in reason
    else:
        assert ours is theirs
