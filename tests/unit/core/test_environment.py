"""Which environment a pod is in, by what its cluster's settings say; as a table."""

import pytest

from noah.core.environment import environment_of, names_near, parse_rule


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("shop-test", "shop-test"),
        (" two words ", "two words"),
        ("50% / ü 🚀", "50% / ü 🚀"),
        ("שלום", "שלום"),
        ("a\nb\0c\x1b[31m", "abc[31m"),
        ("\u202eevil", "evil"),  # would turn the text after it around
        ("half a pair \ud800", "half a pair"),
        ("x" * 300, "x" * 63),
        ("a/b", "a/b"),
        # What cannot be a part of an address leaves the pod where its namespace is.
        ("..", "team-a"), (".", "team-a"), ("a/../b", "team-a"), ("/a", "team-a"), ("a//b", "team-a"), ("a/", "team-a"),
        ("", "team-a"), (" \t ", "team-a"), (None, "team-a"), (7, "team-a"),
    ],
)  # fmt: skip
def test_a_value_that_can_be_a_name_is_one(value: object, name: str) -> None:
    rule = parse_rule("annotation:team")
    pod = {"annotations": {"team": value}}
    assert environment_of(rule, namespace="team-a", pod=pod, in_namespace={}) == name


def test_names_that_differ_by_one_letter_are_near() -> None:
    near = set(names_near("shop-tset"))
    assert {"shop-test", "shop-tse", "shop-tset2", "shop-tsat", "hop-tset"} <= near
    assert "shop-prod" not in near
    assert len(list(names_near("x" * 63))) < 6000  # each costs a microsecond on the event loop
