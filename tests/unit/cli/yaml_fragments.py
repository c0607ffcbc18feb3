"""Values that kubectl 1.32 reads in YAML; test_kubectl_reads_the_same asks kubectl itself."""

from typing import Any

# Each stands behind `  x:` in a document whose `base` is {a: 1, b: 2}, anchored as &base.
FRAGMENTS: list[tuple[str, Any]] = [
    *((f" {word}", True) for word in ("y", "Y", "yes", "Yes", "YES", "true", "True", "on", "On", "ON")),
    *((f" {word}", False) for word in ("n", "N", "no", "No", "NO", "false", "FALSE", "off", "Off", "OFF")),
    *((f" {word}", None) for word in ("", "~", "null", "Null", "NULL")),
    *(
        (f" {word}", word)
        for word in ("yEs", "oN", "nULL", "tRUE", "=", "a:b", "http://x", "1.2.3", "10m", "v1", "...")
    ),
    (" 0o17", 15),
    (" 017", 15),
    (" 08", 8),
    (" 0", 0),
    (" -0", 0),
    (" +5", 5),
    (" 0x1F", 31),
    (" 0b101", 5),
    (" -0b11", -3),
    (" 1_000", 1000),
    (" 1:30", "1:30"),
    (" 190:20:30", "190:20:30"),
    (" 1e3", 1000),
    (" 1.50", 1.5),
    (" .5", 0.5),
    (" 5.", 5),
    (" 1_0.5", 10.5),
    (" 1e999", "1e999"),
    (" 2001-01-01", "2001-01-01"),
    (" 2001-12-14T21:59:43Z", "2001-12-14T21:59:43Z"),
    (" !!str 5", "5"),
    (" !!str yes", "yes"),
    (" !!int '5'", 5),
    (" !!float 5", 5),
    (" !!binary aGk=", "hi"),
    (" !foo 5", "5"),
    (" ! 5", "5"),
    (" '5'", "5"),
    (' "yes"', "yes"),
    (' "a\\tb\\u00e9\\x41"', "a\tbéA"),
    (' "a\n    b\\\n    c"', "a bc"),
    (" 'it''s'", "it's"),
    (" a\n    b", "a b"),
    (" |\n    a\n     b\n", "a\n b\n"),
    (" |-\n    a\n", "a"),
    (" >\n    a\n    b\n", "a b\n"),
    (" |2-\n      a\n", "  a"),
    ("\ta", "a"),
    (" a\t# comment", "a"),
    (" a\tb", "a\tb"),
    (" {\n\ta: 1\n  }", {"a": 1}),
    (" [a,\n\tb]", ["a", "b"]),
    (" {a: 1, a: 2}", {"a": 2}),
    ("\n    a: 1\n    b: 3\n    a: 2", {"a": 2, "b": 3}),
    (" {1: a, yes: b, 1.5: c, true: d}", {"1": "a", "true": "d", "1.5": "c"}),
    (" {? a : b}", {"a": "b"}),
    ("\n    ? a\n    : b", {"a": "b"}),
    (" {a, b: }", {"a": None, "b": None}),
    (" {a:}", {"a:": None}),
    (" [a:, http://b:]", ["a:", "http://b:"]),
    (' {"a":1}', {"a": 1}),
    (" *base", {"a": 1, "b": 2}),
    (" [*base, *base]", [{"a": 1, "b": 2}] * 2),
    (" {<<: *base, a: 0}", {"a": 0, "b": 2}),
    (" {a: 0, <<: *base}", {"a": 1, "b": 2}),  # not as YAML says: what comes later counts
    (" {<<: [*base, {a: 7, c: 3}]}", {"a": 1, "b": 2, "c": 3}),
    (" {<<: {c: 3}, <<: *base}", {"a": 1, "b": 2, "c": 3}),
    (" {'<<': 1}", {"<<": 1}),
    (" &one\n    c: &two 2\n    d: *two", {"c": 2, "d": 2}),
    ("\n  - a\n  -\n  - b: c\n    d:\n  - - e", ["a", None, {"b": "c", "d": None}, ["e"]]),
]

REFUSED = [
    " .inf",
    " .nan",
    " !!int a",
    " {null: a}",
    " {[a]: b}",
    " @a",
    " `a",
    " %a",
    " *unknown",
    " [a",
    " {<<: 5}",
    " {<<: [5]}",
    " a: b",
    "\n\t- a",
    ' "\\q"',
    " &a [*a]",
]


def document(fragment: str) -> str:
    return (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  base: &base {{a: 1, b: 2}}\n  x:{fragment}\n"
    )
