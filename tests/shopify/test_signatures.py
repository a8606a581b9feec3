"""Who signed a webhook."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shopify_app.verify.webhook import verify_webhook_req

from sellflow.shopify.query_signatures import sign_query
from sellflow.shopify.signatures import is_signed, sign_webhook

SECRET = "hush"
#: echo -n '{"id":450789469}' | openssl dgst -sha256 -hmac hush -binary | base64
BODY = b'{"id":450789469}'
SIGNATURE = "QPF8T1ti8Gpf6xXRoKZDI2G/2Fp8v4tKnau8MqDdx3o="

BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def hmac_by_hand(body: bytes, secret: str) -> str:
    """HMAC-SHA256 as RFC 2104 spells it, without the standard library's hmac."""
    key = secret.encode()
    key = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + body).digest()
    return b64encode(hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()).decode()


@pytest.mark.conformance
def test_a_known_body_has_the_signature_that_openssl_gives_it() -> None:
    assert sign_webhook(BODY, SECRET) == SIGNATURE
    assert is_signed(BODY, SIGNATURE, [SECRET])


@pytest.mark.conformance
@given(st.binary(max_size=300), st.text(st.characters(codec="utf-8"), min_size=1, max_size=100))
def test_any_body_is_signed_as_rfc_2104_says(body: bytes, secret: str) -> None:
    assert sign_webhook(body, secret) == hmac_by_hand(body, secret)
    assert is_signed(body, hmac_by_hand(body, secret), [secret])


def test_either_of_two_secrets_will_do_and_no_third() -> None:
    for secret, verdict in (("new", True), ("old", True), ("older", False)):
        assert is_signed(BODY, sign_webhook(BODY, secret), ["new", "old"]) is verdict


def test_without_secrets_nothing_is_signed() -> None:
    assert not is_signed(BODY, SIGNATURE, [])


@pytest.mark.parametrize("body", [b"", BODY + b" ", BODY[:-1], BODY.upper(), b"\0" + BODY])
def test_a_signature_fits_only_its_own_body(body: bytes) -> None:
    assert not is_signed(body, SIGNATURE, [SECRET])


@pytest.mark.parametrize(
    "signature",
    [
        "",
        " ",
        "=",
        "====",
        "not base64!",
        SIGNATURE[:-1],
        SIGNATURE + "=",
        SIGNATURE[:-4],
        SIGNATURE + SIGNATURE,
        SIGNATURE.lower(),
        f" {SIGNATURE}",
        f"{SIGNATURE}\n",
        SIGNATURE.replace("=", "\xe9"),
        "é" * 44,
        "\N{GRINNING FACE}",
        "\udcff" * 44,
        "\0" * 44,
        b64encode(bytes(31)).decode(),
        b64encode(bytes(33)).decode(),
        hashlib.sha256(BODY).hexdigest(),
        "A" * 100_000,
    ],
)
def test_rubbish_in_the_header_is_no_signature_and_no_error(signature: str) -> None:
    assert is_signed(BODY, signature, [SECRET, "old"]) is False


@given(st.text())
def test_no_text_at_all_raises(signature: str) -> None:
    assert is_signed(BODY, signature, [SECRET]) is (signature == SIGNATURE)


def changed(signature: str, place: int, letter: str) -> str:
    return signature[:place] + letter + signature[place + 1 :]


def respelled(signature: str) -> str:
    """The same bytes in other letters: base64 leaves two bits of the last one unused."""
    return changed(signature, 42, BASE64[BASE64.index(signature[42]) ^ 1])


signatures = st.one_of(
    st.sampled_from(["right", "respelled"]),
    st.tuples(st.integers(0, 43), st.sampled_from(BASE64)),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)


@pytest.mark.conformance
@settings(max_examples=400)
@given(
    body=st.text(st.characters(codec="utf-8"), max_size=200),
    signer=st.sampled_from(["new", "old", "stranger"]),
    previous=st.sampled_from(["old", None]),
    change=signatures,
)
@example(body="{}", signer="new", previous=None, change="respelled")
def test_the_verdict_is_that_of_shopifys_own_library(
    body: str, signer: str, previous: str | None, change: str | tuple[int, str]
) -> None:
    signature = sign_webhook(body.encode(), signer)
    if isinstance(change, tuple):
        signature = changed(signature, *change)
    elif change == "respelled":
        signature = respelled(signature)
    elif change != "right":
        signature = change
    theirs = verify_webhook_req(
        {
            "method": "POST",
            "url": "https://app.example/webhooks",
            "headers": {"x-shopify-hmac-sha256": signature, "x-shopify-shop-domain": "acme.myshopify.com"},
            "body": body,
        },
        {"client_id": "client", "client_secret": "new", "old_client_secret": previous},
    )
    secrets = ["new", previous] if previous else ["new"]
    assert is_signed(body.encode(), signature, secrets) is theirs.ok


@pytest.mark.conformance
@pytest.mark.parametrize("family", ["x-shopify-", "shopify-"])
def test_both_header_families_are_signed_alike_to_shopifys_own_library(family: str) -> None:
    headers = {f"{family}hmac-sha256": sign_webhook(BODY, SECRET), f"{family}shop-domain": "acme.myshopify.com"}
    request = {"method": "POST", "url": "https://app.example/", "headers": headers, "body": BODY.decode()}
    assert verify_webhook_req(request, {"client_id": "c", "client_secret": SECRET}).ok  # type: ignore[arg-type, typeddict-item]


@pytest.mark.conformance
def test_the_signature_of_a_query_is_none_of_a_webhook() -> None:
    """What browsers get to see, Shopify signs in hexadecimal: it opens no webhook whose body is the signed text."""
    parameters = {"shop": "acme.myshopify.com", "timestamp": "1337178173"}
    in_hexadecimal = sign_query(parameters, SECRET)
    signed_text = b"shop=acme.myshopify.com&timestamp=1337178173"
    assert not is_signed(signed_text, in_hexadecimal, [SECRET])
    assert bytes.fromhex(in_hexadecimal) == b64decode(sign_webhook(signed_text, SECRET)), "it is the same digest"
