"""YAML as kubectl reads it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.cli.manifests.reading import NotReadable, compose, meaning, repeated_keys
from noah.cli.manifests.stream import documents
from noah.cli.manifests.writing import to_yaml
from tests.unit.cli.yaml_fragments import FRAGMENTS, REFUSED, document


def read(text: str) -> Any:
    root = compose(text)
    assert root is not None
    return meaning(root, text)


@pytest.mark.parametrize(("fragment", "value"), FRAGMENTS, ids=[fragment for fragment, _ in FRAGMENTS])
def test_a_value_is_what_kubectl_reads(fragment: str, value: Any) -> None:
    found = read(document(fragment))["data"]["x"]
    assert found == value
    assert type(found) is type(value) or isinstance(value, int | float)


@pytest.mark.parametrize("fragment", REFUSED)
def test_a_text_that_kubectl_refuses_is_refused(fragment: str) -> None:
    with pytest.raises(NotReadable) as refused:
        read(document(fragment))
    assert 4 <= refused.value.line <= 7


@pytest.mark.parametrize("nested", ["[" * 20_000, "{a: " * 20_000, "- " * 20_000])
def test_a_deeply_nested_text_is_refused(nested: str) -> None:
    with pytest.raises(NotReadable):
        read(document(" " + nested))


def test_aliases_that_stand_for_too_much_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(NotReadable, match="too many values"):
        read("\n".join(lines))


def test_json_is_read_as_json() -> None:
    assert read('{\n\t"a": "\\ud83d\\ude00\\/",\n\t"a": 1.0e2}') == {"a": 100}
    assert read('{"a": "\\ud83d\\ude00\\/"}') == {"a": "😀/"}


def test_only_the_first_document_of_a_text_is_read() -> None:
    assert read("a: 1\n...\nb: [\n") == {"a": 1}


def test_a_key_that_is_there_twice_is_found() -> None:
    root = compose("a: {b: 1, c: 2, b: 3}\nd: 1\na: 2\n")
    assert root is not None
    assert sorted(repeated_keys(root)) == [("a", 0, 2), ("b", 0, 0)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("a: 1\n", ["a: 1\n"]),
        ("a: 1\n---\nb: 2\n", ["a: 1\n", "---\nb: 2\n"]),
        ("a: 1\r\n---\r\nb: 2\r\n", ["a: 1\r\n", "---\r\nb: 2\r\n"]),
        ("--- # first\na: |\n  ---\n  x\n--- {b: 2}\n---", ["--- # first\na: |\n  ---\n  x\n", "--- {b: 2}\n", "---"]),
        ("\ufeffa: 1\n", ["\ufeff", "a: 1\n"]),
        ('{"a": "\\n---\\n"}\n{"b": 2}{"c": 3}\n', ['{"a": "\\n---\\n"}', '\n{"b": 2}', '{"c": 3}\n']),
        ("{a: 1}\n", ["{a: 1}\n"]),
        ("a: '---'\n ---\n----\n", ["a: '---'\n ---\n----\n"]),
    ],
)
def test_a_stream_is_cut_where_kubectl_cuts_it(text: str, pieces: list[str]) -> None:
    assert [document.text for document in documents(text)] == pieces


def test_documents_are_counted_with_their_lines() -> None:
    found = documents("# head\n---\n\n---\na: 1\n\n---\n# only a comment\n---\nb: 2\n")
    assert [(document.number, document.line) for document in found] == [(0, 1), (0, 2), (1, 4), (0, 7), (2, 9)]


@given(st.text(alphabet=st.sampled_from('-\n {}"a:#\r\t,[]'), max_size=60))
def test_the_pieces_of_a_stream_are_the_stream(text: str) -> None:
    assert "".join(document.text for document in documents(text)) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 62) | st.floats(-1e9, 1e9) | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_what_is_written_is_read_again(data: dict[str, Any]) -> None:
    assert read(to_yaml(data)) == data
