"""An HTTP API of hosts that sends what it likes: it gets a sentence, and nobody else notices."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from noah.errors import BadSettings
from noah.settings import InventorySettings
from noah.targets.host import hosts_json
from noah.targets.host.host_api import HostApi
from tests.security.loop_time import cpu_of, most_s
from tests.unit.targets.host_apis import answer, answering, listening


async def read(*answers: bytes, **more: Any) -> list[Any]:
    async with answering(*answers) as (url, _), asyncio.timeout(60):
        return await HostApi().read(InventorySettings(url=url, **more))


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (answer("<html>"), "has to answer with a list of hosts"),
        (answer('[{"name": "kvm-1"'), "has to answer with a list of hosts"),
        (answer("{}"), "has to answer with a list of hosts"),
        (answer("[" * 100_000), "has to answer with a list of hosts"),
        (answer('["' + "x" * 100_000 + '"]'), "has more than 65536"),
        (answer(b"[\xff]"), "has to answer with a list of hosts"),
        (answer('{"hosts": [], "next": "http://["}'), "the address of its next page is not a URL"),
        (answer('{"hosts": [], "next": "mailto:x"}'), "cannot be read"),
        (answer('{"hosts": [], "next": 7}'), "its next page has no address"),
        (answer(json.dumps({"hosts": [], "next": "x" * 60_000})), "its next page has no address"),
        (answer('{"hosts": [], "next": "https://elsewhere/"}'), "its next page is at another server"),
        (answer('{"hosts": [], "next": "?a"}'), "it has pages without end"),
        (answer("[]", "Link: <http://[>; rel=next"), "cannot be read"),
        (answer("", "Location: https://elsewhere/", status="302 Found"), "it answers 302"),
        (answer("", status="304 Not Modified"), "it answers 304"),
        (answer("[" + "1," * 9 + "1]"), "more than 5 hosts, which most_hosts allows"),
        (answer(" " * (17 << 20)), "more than 16 MiB: let it have more pages"),
        (answer(gzip.compress(b" " * (64 << 20)), "Content-Encoding: gzip"), "more than 16 MiB"),
        (answer("[]", "Content-Encoding: gzip"), "cannot be read"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]", "cannot be read"),
        (b"\x1b[2J\r\n\r\n", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
async def test_what_is_not_a_list_of_hosts_is_a_sentence_that_names_the_api(sent: bytes, sentence: str) -> None:
    with pytest.raises(BadSettings, match=sentence) as raised:
        await read(sent, most_hosts=5)
    assert raised.value.sentence.startswith("http://127.0.0.1:")
    assert raised.value.sentence.isprintable()
    assert len(raised.value.sentence) < 500


async def test_pages_follow_their_links_and_are_asked_for_with_their_etags() -> None:
    first = answer('{"more": {"hosts": [3]}, "hosts": [1], "next": "?page=2"}', 'ETag: "one"')
    second = answer("[2]", 'ETag: "tw\xff"')
    unchanged = answer("", status="304 Not Modified")
    async with answering(first, second, unchanged, second) as (url, asked):
        api, wanted = HostApi(), InventorySettings(url=url)
        assert await api.read(wanted) == [1, 2]
        assert await api.read(wanted) == [1, 2]
    assert ['If-None-Match: "one"' in one for one in asked] == [False, False, True, False]
    assert not any("If-None-Match" in one for one in (asked[1], asked[3]))  # what cannot be sent is not remembered


async def test_a_page_that_has_not_changed_is_not_read_again() -> None:
    sent = answer('[{"name": "a"}]')
    async with answering(sent, sent, answer('[{"name": "b"}]')) as (url, _):
        api, wanted = HostApi(), InventorySettings(url=url)
        [first], [again], [changed] = [await api.read(wanted) for _ in range(3)]
    assert again is first
    assert changed == {"name": "b"}


async def test_a_linked_page_is_the_next_one() -> None:
    assert await read(answer("[1]", 'Link: <?page=2>; rel="next"'), answer("[2]")) == [1, 2]


@pytest.mark.parametrize("token", [b"a\nb", b"\xff", b"", "ü".encode()])
async def test_a_token_that_cannot_be_sent_is_named_and_not_shown(tmp_path: Path, token: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(token)
    with pytest.raises(BadSettings, match="does not hold a token"):
        await read(answer("[]"), token_file=file)


async def test_what_may_be_a_key_in_the_address_is_in_no_sentence() -> None:
    async with answering(b"nonsense\r\n\r\n", answer("", status="500 X")) as (url, _):
        wanted = InventorySettings(url=url.replace("http://", "http://user:hidden@") + "?key=hidden")
        for _ in range(2):
            with pytest.raises(BadSettings) as raised:
                await HostApi().read(wanted)
            assert "hidden" not in raised.value.sentence


async def test_an_api_that_sends_without_end_is_left() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    async with listening(flood) as url, asyncio.timeout(60):
        with pytest.raises(BadSettings, match="more than 16 MiB"):
            await HostApi().read(InventorySettings(url=url))


def test_a_list_is_read_as_json_reads_it() -> None:
    for text in ("[]", ' [ 1 , [2, {}], {"a": "]"} ] ', '["ü", 1e3, -0, null, true]'):
        assert hosts_json.read_list(text.encode()) == json.loads(text)
    for text in ("", "[", "[1", "[1,]", "[1 2]", "[1]]", "{}", "[12", "1", "[,1]", "[1,,2]"):
        with pytest.raises(ValueError, match="character"):
            hosts_json.read_list(text.encode())


@pytest.mark.parametrize("value", ["[],", "{},", "1,", '{"a":{}},', '"",', "[[[[[[]]]]]],"])
def test_no_value_is_read_for_so_long_that_a_debugger_would_notice(value: str) -> None:
    """Whatever a source sends: the event loop waits for each value, in whichever thread it is read."""
    worst = "[" + value * ((hosts_json.LONGEST_VALUE - 10) // len(value)) + "1]"
    text = f"[{worst}]".encode()
    assert cpu_of(lambda: hosts_json.read_list(text)) < most_s()
