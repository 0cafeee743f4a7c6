"""Hypothesis strategies that damage a valid file: its bytes, or the words of its text."""

import json
import re
import struct

from hypothesis import strategies as st

_EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_NUMBERS = st.builds(
    lambda form, value: struct.pack(form, value & (256 ** struct.calcsize(form) - 1)),
    st.sampled_from(("B", "<H", ">H", "<I", ">I")),
    st.sampled_from(_EXTREMES),
)
_TEXTS = st.text(max_size=8) | st.sampled_from(
    ("a" * 100_000, "../../../etc/passwd", "\x1b[31mred", "a\nb", "\ud800", "\0", "9" * 5000, "nan", "1e999", "")
)
# What may stand in a text of each kind instead of what does: values of JSON, cells of CSV, ...
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
).map(json.dumps)
CSV = _TEXTS | st.floats().map(str) | st.sampled_from(('"', "a,b", "\r", "-1", "True"))
NPY = st.sampled_from((
    *("-1", "0", "2**40", "99999999999", "()", "8,", "5, 1", "x", "(" * 200, "\0", "True", "None", "1"),
    *("'>f4'", "'<f8'", "'|O'", "'|V4'", "'<U1'", "[('a', '<f4')]", "'<M8[s]'", "'zz'", "\x93NUMPY\x09\0v"),
    *("\x93NUMPY\1\0\0\0{", "\x93NUMPY\1\0\xff\xff{", "\x93NUMPY\2\0v\0\0\0{", "\x93NUMPY\3\0v\0\0\0{"),
))  # fmt: skip
# A value of 400 characters that is billions when it is written out: each list is nine times the one before.
_BILLION = "{a: &a [x, x, x, x, x, x, x, x, x]" + "".join(
    f", {b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
) + "}"  # fmt: skip
YAML = st.sampled_from((
    *("null", "~", "true", "-1", "1e400", "9" * 5000, "[]", "{}", "[[1]]", "''", "'\\0'", '"\\x1b[31m"', "2026-13-45"),
    *("!!python/object:os.system x", "!!timestamp x", "!!int x", "!!bool x", "!!binary x", "!!set {a}", "*nowhere"),
    *("&a [*a]", "<<: 3", "{[1]: 2}", "? x", "%YAML 9.9", "|", ">", "\t", "a: b: c", "@", "[" * 2000, "{a: " * 500),
    _BILLION,
)) | st.text()  # fmt: skip
few = st.sampled_from((1, 1, 1, 2, 4))  # how many damages


@st.composite
def damaged(draw, content, others=(b"",)):
    """Damage bytes in one of the ways that disks, transfers and attackers have, seldom in several."""
    for _ in range(draw(few)):
        size = len(content)
        a = draw(st.integers(0, size) | st.integers(0, min(64, size)))  # in the header as often as in all the rest
        b = draw(st.integers(a, size))
        flipped = bytes(byte ^ draw(st.sampled_from((1, 4, 16, 128))) for byte in content[a : a + 1])
        removed_zeroed_repeated = st.sampled_from((b"", bytes(b - a), content[a:b] * 2, content[a:b] * 20))
        piece = draw(st.just(flipped) | _NUMBERS | st.binary(max_size=100) | removed_zeroed_repeated)
        overwritten, spliced = content[a + len(piece) :], draw(st.sampled_from(others))[b:]
        rests = (overwritten, overwritten, overwritten, content[b:], content[a:], b"", spliced)
        content = content[:a] + piece + draw(st.sampled_from(rests))
    return content


@st.composite
def damaged_text(draw, content, other_words, separators=r",:\[\]{}()\s", encoding="utf-8"):
    """Replace, remove, repeat or insert words of a text, which end at some separators."""
    words = re.split(f"([{separators}]+)", content.decode(encoding))
    for _ in range(draw(few)):
        place = draw(st.integers(0, len(words) - 1))
        end = place + draw(st.sampled_from((1, 1, 1, 1, 0, 2)))
        words[place:end] = [draw(other_words | st.sampled_from(words))] * draw(st.sampled_from((1, 1, 1, 1, 0, 2)))
        words = words or [""]
    return "".join(words).encode(encoding, "surrogatepass")


@st.composite
def without_a_column(draw, content):
    """Remove a column of a CSV."""
    rows = [line.split(b",") for line in content.split(b"\n")]
    column = draw(st.integers(0, len(rows[0]) - 1))
    return b"\n".join(b",".join(row[:column] + row[column + 1 :]) for row in rows)
