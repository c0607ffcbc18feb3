"""The reader of event streams: any pieces give the same events, and none twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.client.event_reader import LONGEST_LINE_BYTES, EventReader, NotAnEventStream, ServerEvent

STREAM = (
    b": ping\r\n\r\n"
    b'id: 4f-1\nevent: step\ndata: {"text": "gr\xc3\xbc\xc3\x9fe"}\n\n'
    b"id: 4f-2\ndata: one\ndata: two\n\n"
    b": ping\n\n"
    b"data:no space\n\n"
)
EVENTS = [
    ServerEvent("4f-1", "step", '{"text": "grüße"}'),
    ServerEvent("4f-2", "message", "one\ntwo"),
    ServerEvent("4f-2", "message", "no space"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_pieces_give_the_same_events(cuts: list[int]) -> None:
    reader, found, start = EventReader(), [], 0
    for end in [*sorted(cuts), len(STREAM)]:
        found += reader.feed(STREAM[start:end])
        start = end
    assert found == EVENTS
    assert reader.last_id == "4f-2"


def test_what_an_earlier_connection_brought_does_not_come_twice() -> None:
    reader = EventReader("4f-9")
    repeated = b"id: 4f-8\ndata: a\n\nid: 4f-9\ndata: b\n\nid: 4f-10\ndata: c\n\n"
    assert [event.data for event in reader.feed(repeated)] == ["c"]


def test_a_gateway_that_was_restarted_counts_anew() -> None:
    reader = EventReader("4f-9")
    assert [event.data for event in reader.feed(b"id: 77-1\ndata: a\n\n")] == ["a"]


def test_being_told_to_reload_is_no_double_of_the_event_that_it_is_numbered_after() -> None:
    assert len(EventReader("4f-9").feed(b"id: 4f-9\nevent: reload\ndata: {}\n\n")) == 1


def test_an_id_without_data_is_only_a_place_to_go_on_from() -> None:
    reader = EventReader()
    assert reader.feed(b"id: 4f-3\n\n") == []
    assert reader.last_id == "4f-3"


def test_a_line_that_never_ends_is_no_event_stream() -> None:
    reader = EventReader()
    assert reader.feed(b"x" * LONGEST_LINE_BYTES) == []
    with pytest.raises(NotAnEventStream):
        reader.feed(b"x")
