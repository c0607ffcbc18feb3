"""Writes JSON values as YAML that says the same in YAML 1.1, which kubectl reads, and in 1.2."""

import json
import re
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_NOT_PRINTABLE = re.compile(r"[^ -~]")


def to_yaml(data: Any) -> str:
    return "".join(f"{line}\n" for line in lines_of(data))


def lines_of(value: Any) -> list[str]:
    """Return a document's lines."""
    if isinstance(value, dict) and value:
        return [line for key, below in value.items() for line in block(below, 0, key=key)]
    if isinstance(value, list) and value:
        return [line for item in value for line in block(item, 0)]
    return [flow(value)]


def flow(value: Any) -> str:
    """Return *value* as JSON on one line. What is not printable is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else _NOT_PRINTABLE.sub(_escaped, text)


def block(value: Any, indent: int, *, key: str | None = None) -> list[str]:
    """Return the lines of one pair of a mapping, or of one item of a sequence."""
    blank = " " * indent
    if key is not None:
        first, *rest = behind_key(value, indent)
        return [f"{blank}{_scalar(key)}:{first}", *rest]
    if isinstance(value, dict) and value:
        first, *rest = [line for k, v in value.items() for line in block(v, indent + 2, key=k)]
        return [f"{blank}- {first.lstrip()}", *rest]
    first, *rest = behind_key(value, indent)
    return [f"{blank}-{first}", *rest]


def behind_key(value: Any, indent: int) -> list[str]:
    """Return what stands behind a key at *indent*: the rest of its line, then lines."""
    if _is_script(value):
        blank = " " * (indent + 2)
        return [" |", *(blank + line if line else "" for line in value[:-1].split("\n"))]
    if is_inline(value):
        return [" " + (flow(value) if isinstance(value, dict | list) else _scalar(value))]
    if isinstance(value, dict):
        return ["", *(line for k, v in value.items() for line in block(v, indent + 2, key=k))]
    return ["", *(line for item in value for line in block(item, indent + 2))]


def is_inline(value: Any) -> bool:
    if isinstance(value, dict | list):
        return not value
    return not _is_script(value)


def _is_script(value: Any) -> bool:
    """Return whether it can be a block of lines: nothing in it needs an escape, and its end is clear."""
    if not (isinstance(value, str) and value.endswith("\n") and value.isascii() and value[0] not in " \n\t"):
        return False
    return "\n" in value and not value.endswith("\n\n") and value.replace("\n", "").replace("\t", "").isprintable()


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        if '"' in value and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
    return flow(value)


def _escaped(character: re.Match[str]) -> str:
    one = character[0]
    if one.isprintable():
        return one
    return f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"  # YAML knows no surrogates
