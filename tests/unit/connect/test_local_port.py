"""The port on the laptop: the same again if it is free, another if it is not, one sentence if there is none."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from noah.connect.local_port import STEP, TRIES, LocalPort
from noah.errors import Unavailable
from tests.ports import free_port


@contextmanager
def taken(ports: list[int]) -> Iterator[None]:
    with ExitStack() as stack:
        for port in ports:
            one = stack.enter_context(socket.socket())
            with suppress(OSError):  # somebody else has it, which is as good
                one.bind(("127.0.0.1", port))
                one.listen()
        yield


def ports_after(preferred: int) -> list[int]:
    ports = [preferred + n * STEP for n in range(TRIES)]
    return [port if port < 65536 else 1024 + port % 64512 for port in ports]


async def test_a_port_that_is_taken_is_replaced_by_another() -> None:
    preferred = free_port()
    local = LocalPort(preferred, asyncio.Protocol)
    with taken([preferred]):
        await local.open()
    local.close()
    assert local.port in ports_after(preferred)[1:]


async def test_if_all_ports_are_taken_one_sentence_says_so() -> None:
    preferred = free_port()
    local = LocalPort(preferred, asyncio.Protocol)
    with taken(ports_after(preferred)), pytest.raises(Unavailable) as refused:
        await local.open()
    assert refused.value.sentence == f"Port {preferred} of this machine is taken, and so are 9 others."
