"""Numbers and lines parsed from text, against Python's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muscan.kernels import text as kernel


def number(word: str) -> tuple[float, bool]:
    raw = np.frombuffer(word.encode() + b"\n", np.uint8)
    return kernel.parse_number(raw, 0, len(raw) - 1)


def identifier(word: str) -> tuple[int, bool]:
    raw = np.frombuffer(word.encode() + b"\n", np.uint8)
    return kernel.parse_identifier(raw, 0, len(raw) - 1)


@given(st.decimals(-(10**9), 10**9, places=5))
def test_decimals_are_read_exactly(value) -> None:
    assert number(str(value)) == (float(value), True)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(1.7976931348623157e308)
@example(-0.0)
def test_any_double_is_read_to_its_last_digits(value: float) -> None:
    found, good = number(repr(value))
    assert good
    # Doubles below 1e-290 lose digits on the way.
    assert math.isclose(found, value, rel_tol=1e-14, abs_tol=1e-305)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1.", 1.0),
        (".5", 0.5),
        ("+2", 2.0),
        ("-1E3", -1000.0),
        ("1e+05", 1e5),
        ("12345678901234567890123", 12345678901234567890123.0),
        ("0.00000000000000000000000001", 1e-26),
        ("1e99999", math.inf),
        ("1e-99999", 0.0),
        ("inf", math.inf),
        ("-Inf", -math.inf),
    ],
)
def test_ways_to_write_a_number(word: str, value: float) -> None:
    found, good = number(word)
    assert good
    assert found == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "-nan"])
def test_nothing_is_nan(word: str) -> None:
    found, good = number(word)
    assert good
    assert math.isnan(found)


@pytest.mark.parametrize("word", ["x", "1x", "1.2.3", "--1", "1e", "e5", "1e5.5", "0x10", "-", "."])
def test_what_is_no_number_is_told(word: str) -> None:
    assert not number(word)[1]


@given(st.integers(0, 2**64 - 1))
@example(2**64 - 1)
def test_identifiers_are_exact(value: int) -> None:
    assert identifier(str(value)) == (value, True)
    assert identifier(f"{value}.00") == (value, True)


@pytest.mark.parametrize("word", ["", "-1", "1.5", "a", "18446744073709551616", "1e3", "."])
def test_what_is_no_identifier_is_told(word: str) -> None:
    assert not identifier(word)[1]
