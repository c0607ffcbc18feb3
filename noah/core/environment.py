"""Which environment a pod belongs to: by its namespace's name, or by a label or an annotation that the settings name.

A value that is missing, or that cannot be a name, leaves the pod in the environment of its namespace's name.
"""

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

LONGEST_NAME = 63  # characters; as long as a label's value can be. An annotation may hold anything.

_LETTERS = f"{string.ascii_lowercase}{string.digits}-._"  # of which almost all names are
_NOT_IN_PATHS = {"", ".", ".."}  # browsers and proxies take these parts out of addresses, which names are in

Metadata = Mapping[str, Any]  # an object's metadata, as JSON


@dataclass(frozen=True, slots=True)
class EnvironmentRule:
    whose: Literal["pod", "namespace"]
    part: Literal["labels", "annotations"]
    key: str

    @property
    def annotation_of_pods(self) -> str | None:
        return self.key if (self.whose, self.part) == ("pod", "annotations") else None


def parse_rule(text: str) -> EnvironmentRule | None:
    """Return the rule of a cluster's setting, such as "namespace-label:KEY"; None: namespaces are environments."""
    whose, _, key = text.partition(":")
    if not key:
        return None
    of_namespace = whose.startswith("namespace-")
    part: Literal["labels", "annotations"] = "labels" if whose.endswith("label") else "annotations"
    return EnvironmentRule("namespace" if of_namespace else "pod", part, key)


def environment_of(rule: EnvironmentRule | None, *, namespace: str, pod: Metadata, in_namespace: Metadata) -> str:
    """*pod*, *in_namespace*: the metadata of the pod, and of its namespace as far as it is known."""
    if rule is None:
        return namespace
    metadata = pod if rule.whose == "pod" else in_namespace
    return _as_name((metadata.get(rule.part) or {}).get(rule.key)) or namespace


def names_near(name: str) -> Iterator[str]:
    """Yield the names that differ from *name* by one letter: more, less, another one, or two that are exchanged."""
    for at in range(len(name) + 1):
        before, rest = name[:at], name[at:]
        if rest:
            yield before + rest[1:]
        if len(rest) > 1:
            yield before + rest[1] + rest[0] + rest[2:]
        for letter in _LETTERS:
            yield before + letter + rest
            if rest:
                yield before + letter + rest[1:]


def _as_name(value: object) -> str:
    if not isinstance(value, str):
        return ""
    name = "".join(c for c in value[: 4 * LONGEST_NAME] if c.isprintable()).strip()[:LONGEST_NAME].strip()
    return "" if _NOT_IN_PATHS & {*name.split("/")} else name
