"""Hypothesis strategies that damage a valid file: its bytes, the values of JSON, cells of a CSV, lines of YAML."""

import copy
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
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
# A value of 400 characters that is billions when it is written out: each list is nine times the one before.
_BILLION = "{a: &a [x, x, x, x, x, x, x, x, x]" + "".join(
    f", {b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
) + "}"  # fmt: skip
_YAML = st.sampled_from((
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
        place = st.integers(0, len(content)) | st.integers(0, min(64, len(content)))  # headers as often as all the rest
        a, b = sorted((draw(place), draw(place)))
        flipped = bytes(byte ^ draw(st.sampled_from((1, 4, 16, 128))) for byte in content[a : a + 1])
        removed_zeroed_repeated = st.sampled_from((b"", bytes(b - a), content[a:b] * 2, content[a:b] * 20))
        piece = draw(st.just(flipped) | _NUMBERS | st.binary(max_size=100) | removed_zeroed_repeated)
        overwritten, spliced = content[a + len(piece) :], draw(st.sampled_from(others))[b:]
        content = content[:a] + piece + draw(st.sampled_from((overwritten, content[b:], content[a:], b"", spliced)))
    return content


@st.composite
def damaged_json(draw, content):
    """Replace, remove or repeat values of a JSON object, anywhere in it."""
    content = copy.deepcopy(content)
    for _ in range(draw(few)):
        places = list(_places(content))
        if not places:
            break
        (holder, key), (other, other_key) = draw(st.sampled_from(places)), draw(st.sampled_from(places))
        how = draw(st.integers(0, 9))
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.append(holder[key])
        else:  # a copy: the other value may be what this one is in
            holder[key] = draw(_VALUES | st.just(copy.deepcopy(other[other_key])))
    return content


def _places(content):
    for key in content if isinstance(content, dict) else range(len(content) if isinstance(content, list) else 0):
        yield content, key
        yield from _places(content[key])


@st.composite
def damaged_csv(draw, text):
    """Replace a cell, or repeat or remove a row or column."""
    rows = [line.split(",") for line in text.split("\n")]
    for _ in range(draw(few)):
        number = draw(st.integers(0, len(rows) - 1))
        column, how = draw(st.integers(0, len(rows[number]) - 1)), draw(st.integers(0, 9))
        if how == 0:
            rows.insert(number, list(rows[number]))
        elif how == 1:
            rows = [row[:column] + row[column + 1 :] or [""] for row in rows]
        elif how == 2 and len(rows) > 1:
            del rows[number]
        else:
            rows[number][column] = draw(_TEXTS | st.floats().map(str) | st.sampled_from(rows[number]))
    return "\n".join(map(",".join, rows))


@st.composite
def damaged_yaml(draw, text):
    """Replace the value of a line or all of it, or repeat one."""
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    for _ in range(draw(few)):
        number, token = draw(st.integers(0, len(lines) - 1)), draw(_YAML)
        key = lines[number].partition(":")[0]
        lines[number] = draw(st.sampled_from((f"{key}: {token}", token, f"{lines[number]}\n{lines[-1]}")))
    return "\n".join(lines)


_NPY = {  # of a header: what is written in it -> what may stand there instead
    b", 5)": (
        b"*2**40, 5)",
        b"99999999999, 99999)",
        b"*-1, 5)",
        b"*0, 5)",
        b",)",
        b", 5, 1)",
        b"x",
        b", 5)" + b"(" * 200,
    ),
    b"'<f4'": (b"'>f4'", b"'<f8'", b"'|O'", b"'|V4'", b"'<U1'", b"[('a', '<f4')]", b"'<M8[s]'", b"'zz'", b"1"),
    b"False": (b"True", b"None", b"()"),
    b"Y\1\0v\0": (b"Y\2\0v\0\0\0", b"Y\3\0v\0\0\0", b"Y\x09\0v\0", b"Y\1\0\0\0", b"Y\1\0\xff\xff"),
}


@st.composite
def damaged_npy(draw, header):
    """Write other values into the 128 bytes of a .npy file's header, which keeps its length."""
    for field in draw(st.sets(st.sampled_from(sorted(_NPY)), min_size=1)):
        header = header.replace(field, draw(st.sampled_from(_NPY[field])))
    return header[:-1].rstrip().ljust(127)[:127] + b"\n"
