from typing import Any

from noah.core.session.audit import KILLED, REMEMBERED, added, left_behind


def _connection(address: str, **changes: Any) -> dict[str, Any]:
    return {"address": address, "until": "2026-01-01T00:00:00+00:00", "ended": "the debugger detached", **changes}


def test_what_two_gateways_saw_is_added_up() -> None:
    earlier = {"commands": {"a": 1, "b": 2}, "connections": [_connection("1")]}  # by a version that foresaw nothing
    now = {"commands": {"b": 3}, "foreseen": {"c": 4}, "connections": [_connection("2")]}
    assert added(earlier, now) == {
        "commands": {"a": 1, "b": 5},
        "foreseen": {"c": 4},
        "connections": [_connection("1"), _connection("2")],
    }
    assert added(None, now) == now


def test_only_the_last_connections_are_remembered() -> None:
    many = [_connection(str(n)) for n in range(REMEMBERED)]
    both = added({"commands": {}, "connections": many}, {"commands": {}, "connections": [_connection("last")]})
    assert [one["address"] for one in both["connections"]] == [str(n) for n in range(1, REMEMBERED)] + ["last"]


def test_a_connection_whose_end_nobody_saw_has_ended() -> None:
    attached = _connection("2", until=None, ended=None)
    left = left_behind({"commands": {}, "connections": [_connection("1"), attached]})
    assert left["connections"] == [_connection("1"), {**attached, "ended": KILLED}]
