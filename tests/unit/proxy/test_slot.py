"""A port's life: one debugger at a time, and everybody else hears why not."""

import asyncio
import socket
from typing import Any

import pytest

from noah.core.jdwp.wire import HANDSHAKE, command
from noah.core.session.session import Vm
from noah.errors import Unavailable
from tests import jdwp
from tests.jdwp import ALL, ask, integer, reply, stop
from tests.unit.proxy.conftest import Jvm, Open, echo

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hung_up(streams: Streams) -> bool:
    """It was, after whatever still came."""
    try:
        async with asyncio.timeout(10):
            while await streams[0].read(65536):
                pass
    except ConnectionError:
        pass
    return True


async def test_the_state_of_the_vm_is_that_of_what_passed(opened: Open) -> None:
    async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(stop(ALL))
        await reader.readexactly(11)
        writer.write(reply(1))
        await reader.read()

    watched = await opened(stops)
    assert watched.slot.vm is None
    _, writer = await watched.attach()
    await watched.until(lambda: watched.slot.vm and watched.slot.vm.vm is Vm.SUSPENDED)
    assert watched.slot.attached is not None
    since = watched.slot.vm and watched.slot.vm.since
    assert since is not None
    assert since >= watched.slot.attached.since
    stood_s = watched.slot.stood_s
    await watched.until(lambda: watched.slot.stood_s > stood_s)
    writer.write(ask(1, jdwp.RESUME))
    await watched.until(lambda: watched.slot.vm and watched.slot.vm.vm is Vm.RUNNING)
    stood_s = watched.slot.stood_s
    writer.close()
    await watched.until(lambda: watched.slot.attached is None)
    assert watched.slot.vm is None
    assert watched.slot.stood_s == stood_s > 0


async def test_a_jvm_that_starts_suspended_is_known_to_stand_from_the_first(opened: Open) -> None:
    """With suspend=y the start's event comes in one segment with the handshake."""

    async def starts_suspended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(14) == HANDSHAKE
        writer.write(HANDSHAKE + stop(ALL, kind=jdwp.VM_START))
        await reader.read()
        writer.close()

    watched = await opened()
    server = await asyncio.start_server(starts_suspended, "127.0.0.1", 0)
    watched.dialled = server.sockets[0].getsockname()[1]
    reader, _ = await watched.attach()
    assert await reader.readexactly(len(stop(ALL))) == stop(ALL, kind=jdwp.VM_START)
    await watched.until(lambda: watched.slot.vm and watched.slot.vm.vm is Vm.SUSPENDED)
    await watched.slot.detach("seen")
    server.close()


async def test_a_second_debugger_is_refused_and_told_who_holds_the_slot(opened: Open) -> None:
    watched = await opened()
    first = await watched.attach()
    second = await watched.connect()
    second[1].write(HANDSHAKE)
    assert await hung_up(second)
    holder: str = "{}:{}".format(*first[1].get_extra_info("sockname"))
    await watched.until(lambda: watched.notices_of("refused"))
    [refusal] = watched.notices_of("refused")
    assert (refusal["reason"], refusal["holder"]) == ("slot_taken", holder)
    assert watched.jvm.touched == 1
    first[1].write(b"still works")
    await first[1].drain()


async def test_the_next_debugger_takes_over_once_that_is_allowed(opened: Open) -> None:
    watched = await opened()
    first = await watched.attach()
    await watched.slot.take_over()
    await watched.attach()
    assert await hung_up(first)
    await watched.until(lambda: watched.notices_of("detached"))
    assert watched.notices_of("detached")[0]["ended"].startswith("taken over by 127.0.0.1:")
    assert watched.jvm.debuggers == 2
    third = await watched.connect()
    third[1].write(HANDSHAKE)
    assert await hung_up(third)  # it was for one


async def test_whoever_comes_back_at_once_finds_the_slot_free(opened: Open) -> None:
    watched = await opened()
    for _ in range(50):
        _, writer = await watched.attach()
        writer.close()
    assert watched.jvm.debuggers == 50
    assert not watched.slot.refused


async def test_a_successor_ends_one_that_has_half_closed(opened: Open) -> None:
    async def does_not_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        while True:  # until the connection breaks
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    watched = await opened(does_not_hang_up)
    _, first = await watched.attach()
    first.write_eof()
    watched.jvm.talk = echo
    await watched.until(lambda: watched.slot._holder and watched.slot._holder.is_leaving)
    await watched.attach()


async def test_detach_closes_the_jvms_side_and_says_why(opened: Open) -> None:
    watched = await opened()
    streams = await watched.attach()
    await watched.slot.detach("resumed by anna")
    assert watched.slot.attached is None
    assert await hung_up(streams)
    await watched.until(lambda: watched.jvm.is_free)
    assert watched.slot.audit()["connections"][0]["ended"] == "resumed by anna"
    await watched.slot.detach("once more")  # of nobody
    await watched.attach()


async def test_close_leaves_nothing_open(opened: Open) -> None:
    watched = await opened()
    attached, waiting = await watched.attach(), await watched.connect()
    await watched.close_port("the session expired")
    assert not watched.listener.is_open
    assert await hung_up(attached)
    assert await hung_up(waiting)
    with pytest.raises(ConnectionRefusedError):
        await watched.connect()
    await watched.until(lambda: watched.jvm.is_free)
    assert watched.slot.audit()["connections"][0]["ended"] == "the session expired"


async def test_close_does_not_wait_for_a_jvm_that_does_not_answer(opened: Open) -> None:
    watched = await opened()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        watched.jvm.port = silent.getsockname()[1]
        _, writer = await watched.connect()
        writer.write(HANDSHAKE)
        await watched.until(lambda: watched.slot._holder)
        async with asyncio.timeout(3):
            await watched.close_port("the gateway stops")


async def test_an_address_that_is_taken_is_an_oserror(opened: Open) -> None:
    first, second = await opened(), await opened()
    await second.close_port("to be opened elsewhere")
    second.listener.port = first.listener.port
    with pytest.raises(OSError, match="in use"):
        await second.open()
    assert not second.listener.is_open


async def test_a_jvm_that_listens_again_in_a_moment_is_waited_for(opened: Open) -> None:
    watched = await opened()
    await watched.jvm.close()
    _, writer = await watched.connect()
    writer.write(HANDSHAKE)
    await watched.until(lambda: watched.slot._holder)
    await asyncio.sleep(0.3)
    await watched.jvm.open(watched.jvm.port)
    await watched.until(lambda: watched.slot.attached)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_jvm_that_is_not_there_is_said_in_a_sentence(opened: Open) -> None:
    watched = await opened()
    await watched.jvm.close()
    streams = await watched.connect()
    streams[1].write(HANDSHAKE)
    assert await hung_up(streams)
    await watched.until(lambda: watched.notices_of("refused"))
    [refusal] = watched.notices_of("refused")
    assert refusal["reason"] == "upstream_failed"
    assert refusal["text"].startswith("The JVM takes no debugger")


async def test_what_a_target_says_of_itself_is_passed_on_at_once(opened: Open) -> None:
    watched = await opened()

    async def not_yet(protocol: Any) -> asyncio.Transport:
        raise Unavailable("The container restarts.")

    watched.slot.dial = not_yet
    streams = await watched.connect()
    streams[1].write(HANDSHAKE)
    assert await hung_up(streams)
    await watched.until(lambda: watched.notices_of("refused"))
    assert watched.notices_of("refused")[0]["text"] == "The container restarts."


async def test_the_next_debugger_goes_where_the_session_has_gone(opened: Open) -> None:
    watched, successor = await opened(), Jvm()
    await successor.open()
    watched.jvm = successor
    _, writer = await watched.attach()
    assert successor.debuggers == 1
    writer.close()
    await successor.close()


async def test_an_exit_becomes_a_command_that_no_jvm_knows_and_is_noticed_once(opened: Open) -> None:
    watched = await opened()
    reader, writer = await watched.attach()
    writer.write(ask(1, jdwp.EXIT, integer(0)) * 3 + ask(2, jdwp.VERSION))
    # This JVM echoes.
    assert await reader.readexactly(56) == ask(1, command(1, 127), integer(0)) * 3 + ask(2, jdwp.VERSION)
    await watched.until(lambda: watched.notices_of("exit_refused"))
    assert len(watched.notices_of("exit_refused")) == 1


async def test_an_exit_passes_where_the_session_allows_it(opened: Open) -> None:
    watched = await opened(allow_exit=True)
    reader, writer = await watched.attach()
    writer.write(ask(1, jdwp.EXIT, integer(0)))
    assert await reader.readexactly(15) == ask(1, jdwp.EXIT, integer(0))


async def test_an_oversized_packet_ends_the_connection_and_never_reaches_the_jvm(opened: Open) -> None:
    heard = bytearray()

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            heard.extend(piece)

    watched = await opened(listens)
    streams = await watched.attach()
    streams[1].write(integer(0x7FFFFFFF) + ask(1, jdwp.VERSION)[4:])
    assert await hung_up(streams)
    await watched.until(lambda: watched.notices_of("detached"))
    assert watched.notices_of("packet_refused")[0]["length"] == 0x7FFFFFFF
    assert "2147483647 bytes" in watched.notices_of("detached")[0]["ended"]
    assert not heard


async def test_the_audit_has_every_connection_and_what_was_done_in_all_of_them(opened: Open) -> None:
    watched = await opened()
    for _ in range(2):
        reader, writer = await watched.attach()
        writer.write(ask(1, jdwp.REDEFINE, bytes(100)))
        await reader.readexactly(111)
        writer.close()
        await watched.until(lambda: watched.slot.attached is None)
    audit = watched.slot.audit()
    assert audit["commands"] == {"classes redefined": 2}
    assert [(c["bytes_in"], c["bytes_out"], c["ended"]) for c in audit["connections"]] == [
        (111, 111, "the debugger closed the connection")
    ] * 2


async def test_a_listener_that_fails_breaks_no_connection(opened: Open) -> None:
    watched = await opened()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail(*_: object) -> None:
        raise ValueError("a bug elsewhere")

    watched.slot._changed = fail
    watched.slot._noticed = fail
    reader, writer = await watched.attach()
    writer.write(ask(1, jdwp.SUSPEND))
    assert await reader.readexactly(11) == ask(1, jdwp.SUSPEND)
    assert failures
    writer.close()
