"""Keys in short lists are in the order that one long list would have."""

from bisect import bisect_left, bisect_right, insort

from hypothesis import given, settings
from hypothesis import strategies as st

from noah.catalog.sorted_keys import SortedKeys

KEYS = st.text("ab-.", min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(KEYS, max_size=60), KEYS, st.integers(0, 30), st.integers(0, 30))
def test_short_lists_answer_as_one_long_list_would(changes: list[str], key: str, start: int, more: int) -> None:
    keys, model = SortedKeys(longest=3), list[str]()
    for change in changes:
        if change in model:
            keys.remove(change)
            model.remove(change)
        else:
            keys.add(change, text=change.upper(), labels=f"labels of {change}")
            insort(model, change)
        assert len(keys) == len(model)
    stop = start + more
    assert keys.part(start, stop) == model[start:stop]
    assert keys.first_from(key) == bisect_left(model, key)
    assert keys.first_after(key) == bisect_right(model, key)
    assert keys.span(key).listed() == [one for one in model if one.startswith(key)]
    columns = [[value for part in keys.lists(start, stop) for value in part[column]] for column in range(3)]
    wanted = model[start:stop]
    assert columns == [wanted, [one.upper() for one in wanted], [f"labels of {one}" for one in wanted]]
