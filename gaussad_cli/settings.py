"""Settings files: YAML that people write, converted by pydantic, with errors that say what to change."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from gaussad_cli.errors import UserError, did_you_mean, in_one_line

T = TypeVar("T")

_LARGEST = 1_000_000  # characters
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, alias_generator=lambda name: name.replace("_", "-"))
_LINES = "should have lines of the form 'key: value'"
_WANTED = {  # by pydantic's type of error, where its own words are about Python
    "bool_type": "should be true or false",
    "dataclass_type": _LINES,
    "dict_type": _LINES,
    "path_type": "should be the path of a file",
    "string_too_short": "should not be empty",
    "too_short": "should not be empty",
}


def convert(content: object, kind: type[T], path: Path) -> T:
    """Convert what was read from a file; fields of dataclasses are keys with hyphens for underscores.

    Raises
    ------
    UserError
        If a key is unknown or a value is not as its type wants it: with the file, the key, and what is wanted.
    """
    adapter = TypeAdapter(kind, config=_CONFIG)
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
    keys = _keys(problem["loc"], content)
    place = ", ".join([str(path), *keys[:-1]])
    if problem["type"] == "unexpected_keyword_argument":
        kinds = adapter.json_schema()["$defs"].values()
        raise unknown_key(place, keys[-1], [name for schema in kinds for name in schema["properties"]])
    choices = re.findall(r"'([\w-]+)'", problem.get("ctx", {}).get("expected", ""))  # of a Literal
    if "[key]" in problem["loc"]:
        raise unknown_key(place, str(problem["input"]), choices)
    value = problem["input"]
    subject = f"'{keys[-1]}: {value!s:.100}'" if keys else "the file"
    wanted = _WANTED.get(problem["type"]) or "should " + problem["msg"].partition(" should ")[2]
    raise UserError(f"{place}: {subject} {wanted}.{did_you_mean(str(value), choices)}")


def unknown_key(place: str, key: str, known: Collection[str]) -> UserError:
    """Return an error that names an unknown key and the nearest known one, or all of them if none is near."""
    return UserError(f"{place}: unknown key '{key}'.{did_you_mean(key, known) or ' Known: ' + ', '.join(known) + '.'}")


def _keys(location: tuple[int | str, ...], content: Any) -> list[str]:
    """Return the keys on the way to a problem, without the numbers of list elements."""
    keys = []
    for part in location:
        if isinstance(content, dict) and part in content:
            keys.append(str(part))
            content = content[part]
        elif isinstance(content, list) and isinstance(part, int):
            content = content[part]
    return keys


def read_yaml(path: Path) -> Any:
    """Read a YAML file that a person wrote.

    Raises
    ------
    UserError
        If the file cannot be read, is not valid YAML, or is too large once its aliases are written out: a few lines of
        aliases can stand for billions of characters, which would end up in an error message.
    """
    try:
        text = path.read_text("utf-8") if path.stat().st_size <= _LARGEST else None
        content = None if text is None else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}.") from None
    except Exception as error:  # PyYAML raises almost anything where a value is not what its tag says
        raise UserError(f"{path} is not valid YAML: {in_one_line(error)}") from None
    if text is None or _written_out(content, {}) > _LARGEST:
        raise UserError(f"{path} is too large for a settings file, which is some lines that a person wrote.")
    return content


def _written_out(value: object, sizes: dict[int, float]) -> float:
    """Return roughly how many characters a value takes; infinitely many if it contains itself."""
    if not isinstance(value, (dict, list, tuple, set)):
        return len(value) if isinstance(value, (str, bytes)) else 1
    if id(value) not in sizes:
        sizes[id(value)] = float("inf")
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        sizes[id(value)] = 2 + sum(_written_out(part, sizes) for part in parts)
    return sizes[id(value)]
