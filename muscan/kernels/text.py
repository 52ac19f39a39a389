"""Delimited text to numbers, a block of bytes at a time."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from muscan.kernels.options import KERNEL, PART

Bytes = NDArray[np.uint8]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

# What a column holds.
SKIP, NUMBER, IDENTIFIER, LABEL = range(4)
# Why parsing stopped before the end of the block.
DONE, TOO_FEW_COLUMNS, TOO_MANY_COLUMNS, NOT_A_NUMBER, NOT_AN_IDENTIFIER, NEW_LABEL = range(6)

_NEWLINE, _RETURN, _QUOTE, _SPACE, _HASH = 10, 13, 34, 32, 35
_PLUS, _MINUS, _POINT, _ZERO, _NINE = 43, 45, 46, 48, 57
#: Powers of ten that doubles hold exactly.
_POWERS = np.array([10.0**k for k in range(23)])
#: More digits than this do not change a double, and would overflow 64 bits.
_MAX_DIGITS = 19
_MAX_IDENTIFIER = np.uint64(2**64 - 1)


@njit(**PART)
def _is_word(text: Bytes, begin: int, end: int, word: Bytes) -> bool:
    """Tell whether a field is a word (given in lower case), in any case."""
    if end - begin != word.size:
        return False
    same = True
    for i in range(word.size):
        same = same and text[begin + i] | 32 == word[i]
    return same


_NAN = np.frombuffer(b"nan", dtype=np.uint8)
_INF = np.frombuffer(b"inf", dtype=np.uint8)


@njit(**KERNEL)
def parse_number(text: Bytes, begin: int, end: int) -> tuple[float, bool]:
    """Return the number that a field holds, and whether it holds one; nothing means NaN.

    Exact (correctly rounded) up to 15 digits and exponents within ±22, which is what data files
    hold; to 1e-15 beyond.
    """
    if begin == end:
        return np.nan, True
    negative = text[begin] == _MINUS
    if negative or text[begin] == _PLUS:
        begin += 1
    mantissa = np.uint64(0)
    digits = 0
    exponent = 0
    point = False
    any_digit = False
    i = begin
    while i < end:
        c = text[i]
        if _ZERO <= c <= _NINE:
            any_digit = True
            if digits < _MAX_DIGITS:
                mantissa = mantissa * np.uint64(10) + np.uint64(c - _ZERO)
                digits += mantissa > 0
                exponent -= point
            else:
                exponent += not point
        elif c == _POINT and not point:
            point = True
        else:
            break
        i += 1
    if not any_digit:
        if _is_word(text, begin, end, _NAN):
            return np.nan, True
        if _is_word(text, begin, end, _INF):
            return (-np.inf if negative else np.inf), True
        return np.nan, False
    if i < end:
        power, good = _parse_exponent(text, i, end)
        if not good:
            return np.nan, False
        exponent += power
    value = _scaled(float(mantissa), exponent)
    return (-value if negative else value), True


@njit(**PART)
def _parse_exponent(text: Bytes, begin: int, end: int) -> tuple[int, bool]:
    """Return the exponent written as e±digits."""
    if text[begin] | 32 != 101:
        return 0, False
    begin += 1
    negative = begin < end and text[begin] == _MINUS
    if begin < end and (negative or text[begin] == _PLUS):
        begin += 1
    if begin == end:
        return 0, False
    power = 0
    for i in range(begin, end):
        if not _ZERO <= text[i] <= _NINE:
            return 0, False
        power = min(power * 10 + np.int64(text[i] - _ZERO), 9999)
    return (-power if negative else power), True


@njit(**PART)
def _scaled(value: float, exponent: int) -> float:
    """Return value · 10^exponent, stepping by exact powers of ten."""
    if value == 0.0:
        return value
    while exponent > 0 and value < np.inf:
        step = min(exponent, 22)
        value *= _POWERS[step]
        exponent -= step
    while exponent < 0 and value > 0.0:
        step = min(-exponent, 22)
        value /= _POWERS[step]
        exponent += step
    return value


@njit(**KERNEL)
def parse_identifier(text: Bytes, begin: int, end: int) -> tuple[int, bool]:
    """Return the unsigned integer that a field holds, and whether it holds one.

    A fraction of zeros, as in ``12.0``, is allowed: spreadsheets write it.
    """
    value = np.uint64(0)
    i = begin
    while i < end and _ZERO <= text[i] <= _NINE:
        digit = np.uint64(text[i] - _ZERO)
        if value > (_MAX_IDENTIFIER - digit) // np.uint64(10):
            return value, False
        value = value * np.uint64(10) + digit
        i += 1
    good = i > begin
    if i < end and text[i] == _POINT:
        i += 1
        while i < end and text[i] == _ZERO:
            i += 1
    return value, good and i == end


@njit(**PART)
def _find_label(
    text: Bytes, begin: int, end: int, names: Bytes, starts: IntArray, guess: int
) -> int:
    """Return which of the names a field is, trying those after ``guess`` first, or -1."""
    n = starts.size - 1
    for k in range(n):
        label = (guess + k) % n
        if starts[label + 1] - starts[label] == end - begin:
            same = True
            for i in range(end - begin):
                if text[begin + i] != names[starts[label] + i]:
                    same = False
                    break
            if same:
                return label
    return -1


@njit(**KERNEL)
def parse_rows(
    text: Bytes,
    begin: int,
    end: int,
    delimiter: int,
    kinds: NDArray[np.int8],
    slots: IntArray,
    names: Bytes,
    name_starts: IntArray,
    lines: IntArray,
    identifiers: NDArray[np.uint64],
    labels: IntArray,
    values: FloatArray,
    where: IntArray,
) -> tuple[int, int]:
    """Parse whole lines; blank ones and those that begin with ``#`` are passed over.

    Parameters
    ----------
    text : (n,) uint8
        The block.
    begin, end : int
        What to parse of it; ends after a line feed.
    delimiter : int
        Byte between fields. Fields may be quoted; spaces around them do not count.
    kinds : (c,) int8
        What each column holds: `SKIP`, `NUMBER`, `IDENTIFIER` or `LABEL`.
    slots : (c,) int64
        Column of ``values`` that takes each number.
    names, name_starts : uint8, (k + 1,) int64
        The known labels, one after the other, and where each begins.
    lines : (m,) int64
        Receives the line of each row, from 0; m is at least the number of lines.
    identifiers : (m,) uint64
    labels : (m,) int64
    values : (m, s) float64
        Receive the fields of each row.
    where : (5,) int64
        Receives where parsing stopped: byte at which the next or offending line begins, its line
        number from 0, its column, and the first and last byte of the field.

    Returns
    -------
    rows : int
        Number of rows parsed.
    reason : int
        `DONE`, or what is wrong with the field at ``where``.
    """
    columns = kinds.size
    row = 0
    line = 0
    at = begin
    guess = 0
    while at < end:
        where[0] = at
        where[1] = line
        if text[at] == _HASH or _is_blank(text, at, end):
            at = _next_line(text, at, end)
            line += 1
            continue
        column = 0
        more = True
        while more:
            first, last, after, more = _field(text, at, end, delimiter)
            at = after
            where[2], where[3], where[4] = column, first, last
            if column >= columns:
                return row, TOO_MANY_COLUMNS
            kind = kinds[column]
            if kind == NUMBER:
                number, good = parse_number(text, first, last)
                if not good:
                    return row, NOT_A_NUMBER
                values[row, slots[column]] = number
            elif kind == IDENTIFIER:
                identifier, good = parse_identifier(text, first, last)
                if not good:
                    return row, NOT_AN_IDENTIFIER
                identifiers[row] = identifier
            elif kind == LABEL:
                label = _find_label(text, first, last, names, name_starts, guess)
                if label < 0:
                    return row, NEW_LABEL
                labels[row] = label
                guess = label + 1
            column += 1
        if column < columns:
            return row, TOO_FEW_COLUMNS
        lines[row] = line
        row += 1
        line += 1
    where[0] = at
    where[1] = line
    return row, DONE


@njit(**PART)
def _field(text: Bytes, at: int, end: int, delimiter: int) -> tuple[int, int, int, bool]:
    """Return a field's first byte and end, where the next one starts, and if the line has more."""
    while at < end and text[at] == _SPACE:
        at += 1
    first = at
    if at < end and text[at] == _QUOTE:
        first = at + 1
        at = first
        while at < end and text[at] != _QUOTE and text[at] != _NEWLINE:
            at += 1
        last = at
        while at < end and text[at] != delimiter and text[at] != _NEWLINE:
            at += 1
        return first, last, at + 1, at < end and text[at] == delimiter
    while at < end and text[at] != delimiter and text[at] != _NEWLINE:
        at += 1
    last = at
    while last > first and (text[last - 1] == _SPACE or text[last - 1] == _RETURN):
        last -= 1
    return first, last, at + 1, at < end and text[at] == delimiter


@njit(**PART)
def _is_blank(text: Bytes, at: int, end: int) -> bool:
    while at < end and (text[at] == _SPACE or text[at] == _RETURN):
        at += 1
    return at >= end or text[at] == _NEWLINE


@njit(**PART)
def _next_line(text: Bytes, at: int, end: int) -> int:
    while at < end and text[at] != _NEWLINE:
        at += 1
    return at + 1
