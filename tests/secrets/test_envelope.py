"""Sealed values: they open for what they were sealed for, and for nothing else, whatever bit of them is changed."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sellflow.secrets import envelope
from sellflow.secrets.envelope import Binding
from sellflow.secrets.errors import CannotOpenError

KEY = envelope.new_data_key()
KEY_ID = uuid4()
SHOPS = st.none() | st.integers(min_value=-(2**63), max_value=2**63 - 1)
BINDINGS = st.builds(Binding, SHOPS, st.text(max_size=40))
TEXTS = st.text(max_size=300)
HERE = Binding(7, "token")


def sealed(plain: str = "shpat_planted", binding: Binding = HERE) -> bytes:
    return envelope.seal(plain, data_key_id=KEY_ID, data_key=KEY, binding=binding)


def opened(value: bytes, binding: Binding = HERE, key: bytes = KEY) -> str:
    envelope.data_key_of(value, binding)
    return envelope.open_sealed(value, data_key=key, binding=binding)


@given(TEXTS, BINDINGS)
def test_a_sealed_value_opens_for_what_it_was_sealed_for(plain: str, binding: Binding) -> None:
    value = sealed(plain, binding)
    assert opened(value, binding) == plain
    assert envelope.data_key_of(value, binding) == KEY_ID


@given(BINDINGS, BINDINGS)
def test_a_sealed_value_opens_for_no_other_shop_or_purpose(one: Binding, other: Binding) -> None:
    if one != other:
        assert one.encoded() != other.encoded()
        with pytest.raises(CannotOpenError, match="does not open"):
            opened(sealed(binding=one), other)


def test_no_bit_of_a_sealed_value_can_be_changed() -> None:
    value = sealed()
    for position in range(len(value) * 8):
        changed = bytearray(value)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(CannotOpenError) as caught:
            opened(bytes(changed))
        assert "shpat_planted" not in str(caught.value)


@given(st.binary(max_size=200))
def test_rubbish_is_no_sealed_value(rubbish: bytes) -> None:
    with pytest.raises(CannotOpenError):
        opened(rubbish)
    with pytest.raises(CannotOpenError):
        opened(sealed()[:-1])
    with pytest.raises(CannotOpenError):
        opened(sealed() + b"\x00" + rubbish)


def test_the_same_value_never_looks_the_same() -> None:
    seen = {sealed("the same") for _ in range(1000)}
    assert len(seen) == 1000
    assert len({value[17:29] for value in seen}) == 1000, "a nonce is never used twice"


def test_another_key_opens_nothing() -> None:
    with pytest.raises(CannotOpenError):
        opened(sealed(), key=envelope.new_data_key())


@given(SHOPS)
def test_a_data_key_unwraps_for_its_own_id_and_shop(shop_id: int | None) -> None:
    master = envelope.new_data_key()

    wrapped = envelope.wrap(KEY, master_key=master, data_key_id=KEY_ID, shop_id=shop_id)
    assert envelope.unwrap(wrapped, master_key=master, data_key_id=KEY_ID, shop_id=shop_id) == KEY
    other_shop = 1 if shop_id is None else None
    for value, key, data_key_id, shop in (
        (wrapped, master, uuid4(), shop_id),
        (wrapped, master, KEY_ID, other_shop),
        (wrapped, envelope.new_data_key(), KEY_ID, shop_id),
        (wrapped[:-1], master, KEY_ID, shop_id),
        (b"", master, KEY_ID, shop_id),
    ):
        with pytest.raises(CannotOpenError, match=f"the data key {data_key_id} does not open"):
            envelope.unwrap(value, master_key=key, data_key_id=data_key_id, shop_id=shop)


def test_no_bit_of_a_wrapped_key_can_be_changed() -> None:
    master = envelope.new_data_key()
    wrapped = envelope.wrap(KEY, master_key=master, data_key_id=KEY_ID, shop_id=7)
    for position in range(len(wrapped) * 8):
        changed = bytearray(wrapped)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(CannotOpenError):
            envelope.unwrap(bytes(changed), master_key=master, data_key_id=KEY_ID, shop_id=7)
