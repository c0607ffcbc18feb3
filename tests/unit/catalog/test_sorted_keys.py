"""Keys in short lists are in the order that one long list would have."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from noah.catalog.sorted_keys import Among, SortedKeys, Span, Substring, Test

KEYS = st.text("abB-\n", min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(KEYS, max_size=60), KEYS, st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_short_lists_answer_as_one_long_list_would(
    changes: list[str], key: str, start: int, more: int, is_kept: bool
) -> None:
    keys, model = SortedKeys(longest=3, kept=[first_of] if is_kept else []), list[str]()
    for number, change in enumerate(changes):
        if change in model:
            keys.remove(change)
            model.remove(change)
        else:
            keys.add(change, text=change.lower())
            insort(model, change)
        assert len(keys) == len(model)
        if number == len(changes) // 2:
            keys.search(keys.span(""), [Among({"a"}, first_of)])  # whose column then follows the changes
            keys.search(
                keys.span(""), [Substring(key[:1].lower())], groups=first_of
            )  # whose count must follow them, too
    stop = start + more
    assert keys.part(start, stop) == model[start:stop]
    assert keys.first_from(key) == bisect_left(model, key)
    assert keys.first_after(key) == bisect_right(model, key)
    assert keys.span(key).listed() == [one for one in model if one.startswith(key)]
    assert keys.has(key) == any(one.startswith(key) for one in model)
    span = Span(keys, min(start, len(model)), min(stop, len(model)))
    part, word = span.listed(), key[:2].lower()
    cases: list[tuple[list[Test], Callable[[str], bool]]] = [
        ([], lambda one: True),
        (
            [Substring(word), Substring("-"), Substring("a", first_of)],
            lambda one: word in one.lower() and "-" in one and one[0] == "a",
        ),
        ([Substring(word[0], first_of, is_once=True)], lambda one: word[0] == one[0]),
        ([Substring(word)], lambda one: word in one.lower()),
        ([Among({word[0]}, first_of)], lambda one: one.startswith(word[0])),
        ([Substring(word), Among({"a", "-"}, first_of)], lambda one: word in one.lower() and one[0] in "a-"),
    ]
    for tests, passes in cases:
        wanted = [one for one in part if passes(one)]
        found = keys.search(span, tests, groups=first_of)
        assert found.total == len(wanted)
        assert found.part(0, found.total) == wanted
        assert found.part(1, 3) == wanted[1:3]
        assert found.first_from(key) == bisect_left(wanted, key)
        assert found.first_after(key) == bisect_right(wanted, key)
        assert found.groups == len(set(map(first_of, wanted)))


def first_of(key: str) -> str:
    return key[0]


def test_a_column_that_has_changed_is_read_again() -> None:
    values = {"a": "old", "b": "old"}
    keys = SortedKeys(kept=[values.__getitem__])
    for key in values:
        keys.add(key, text=key)
    values["b"] = "new"
    keys.update("b")
    assert keys.search(keys.span(""), [Among({"new"}, values.__getitem__)]).part(0, 2) == ["b"]
