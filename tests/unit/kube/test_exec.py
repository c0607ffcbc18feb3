"""What becomes of an exec when the other side does not do its part."""

import asyncio
import collections
import tracemalloc
from collections.abc import Callable

import pytest

from noah.errors import BadInput, NoahError, Unavailable
from noah.kube.client import Client
from noah.kube.errors import ExecCut, MissingRight
from noah.kube.exec.commands import Container, Exec, ExecResult
from noah.kube.exec.stream import V4, V5
from noah.kube.portforward import PortForward
from tests.unit.kube.fake_api import CLOSE, Answer, Call, FakeApi, frame, status

POD = Container("shop", "orders-1", "app", node="node-a")


class Ends:
    """An exec that prints what it was asked to run, and ends when the test says so."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.may_end = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        call.upgrade()
        self.running += 1
        self.most = max(self.most, self.running)
        await self.may_end.wait()
        self.running -= 1
        call.writer.write(frame(b"\x01" + (call.param("command") or "").encode()) + status())
        await call.until_closed()


async def test_argv_goes_word_by_word_whatever_it_contains(api: FakeApi, client: Client) -> None:
    words = ["sh", "-c", "echo $1; ls ../..", "a b&container=other", "ü\n+%2e"]
    api.on_exec = answers(status())
    await Exec(client).run(POD, words, timeout=30)
    (call,) = api.asked("exec")
    assert [value for name, value in call.params if name == "command"] == words
    assert call.param("container") == "app"


async def test_one_of_very_many_clusters_has_no_buffer_of_its_own(client: Client) -> None:
    tracemalloc.start()
    try:
        clusters = [(Exec(client), PortForward(client)) for _ in range(100)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(clusters) < 16 * 1024  # each read is of 256 KiB


async def test_a_stream_cut_in_the_middle_is_no_success(api: FakeApi, client: Client) -> None:
    async def cut(call: Call) -> None:
        call.upgrade(then=frame(b"\x01half of it"))

    api.on_exec = cut
    with pytest.raises(ExecCut, match='The exec stream to container "app" of pod shop/orders-1 was cut'):
        await Exec(client).run(POD, ["true"], timeout=30)


async def test_a_status_that_cannot_be_understood_is_no_success(api: FakeApi, client: Client) -> None:
    api.on_exec = answers(frame(b"\x03{}"))
    with pytest.raises(ExecCut, match="cannot be understood"):
        await Exec(client).run(POD, ["true"], timeout=30)


async def test_a_handshake_that_hangs_has_a_deadline(api: FakeApi, client: Client) -> None:
    api.on_exec = Call.hang
    exec_ = Exec(client, handshake=0.1)
    with pytest.raises(Unavailable, match='Cluster "fake" does not answer: nothing came within 0'):
        await exec_.run(POD, ["true"], timeout=30)
    assert (exec_.counts.started, exec_.counts.failed, exec_.counts.in_flight) == (1, {"unavailable": 1}, 0)


async def test_a_command_that_does_not_end_is_let_go_of(api: FakeApi, client: Client) -> None:
    api.on_exec = Ends()
    exec_ = Exec(client)
    with pytest.raises(Unavailable, match='sleep in container "app" of pod shop/orders-1 did not end within 0'):
        await exec_.run(POD, ["sleep", "9"], timeout=0.1)


async def test_a_server_that_knows_no_v5_is_spoken_to_in_v4(api: FakeApi, client: Client) -> None:
    async def old(call: Call) -> None:
        if V5 in call.headers["sec-websocket-protocol"]:
            # As golang.org/x/net/websocket refuses protocols: no body.
            call.writer.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
        else:
            call.upgrade(V4, then=frame(b"\x01old") + status())
            await call.until_closed()

    api.on_exec = old
    assert await Exec(client).run(POD, ["true"], timeout=30) == ExecResult(0, b"old", b"")


async def test_a_server_that_chooses_no_protocol_is_no_exec_api(api: FakeApi, client: Client) -> None:
    async def careless(call: Call) -> None:
        call.upgrade(None)

    api.on_exec = careless
    with pytest.raises(Unavailable, match="has no exec over WebSocket"):
        await Exec(client).run(POD, ["true"], timeout=30)


async def test_a_refused_handshake_says_why(api: FakeApi, client: Client) -> None:
    who = "system:serviceaccount:noah:gateway"
    message = (
        f'pods "orders-1" is forbidden: User "{who}" cannot create resource "pods/exec" in API group "" in the ...'
    )

    async def forbid(call: Call) -> None:
        call.refuse(403, message)

    api.on_exec = forbid
    with pytest.raises(MissingRight) as refused:
        await Exec(client).run(POD, ["true"], timeout=30)
    assert refused.value.sentence == (
        f'The gateway may not create pods/exec in namespace "shop" of cluster "fake": grant that to {who}.'
    )
    assert len(api.asked("exec")) == 1


async def test_a_proxy_that_refuses_in_html_is_no_reason_to_guess(api: FakeApi, client: Client) -> None:
    async def proxy(call: Call) -> None:
        call.writer.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>no</h1>"
        )

    api.on_exec = proxy
    with pytest.raises(BadInput, match='get pods/exec in namespace "shop" of cluster "fake"'):
        await Exec(client).run(POD, ["true"], timeout=30)


async def test_a_node_gets_eight_at_a_time_and_does_not_keep_others_waiting(api: FakeApi, client: Client) -> None:
    api.on_exec = ends = Ends()
    exec_ = Exec(client)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(exec_.run(POD, ["true"], timeout=30))
        await until(lambda: ends.running == 8)
        with pytest.raises(Unavailable, match='8 commands running on node "node-a" of cluster "fake"'):
            await exec_.run(POD, ["true"], timeout=0.1)
        elsewhere = group.create_task(exec_.run(Container("shop", "orders-2", "app", node="node-b"), ["x"], timeout=30))
        await until(lambda: ends.running == 9)
        ends.may_end.set()
    assert elsewhere.result().stdout == b"x"
    assert ends.most == 9
    assert exec_.counts.started == 22
    assert exec_.counts.failed.total() == 1


async def test_a_cluster_gets_32_at_a_time(api: FakeApi, client: Client) -> None:
    api.on_exec = ends = Ends()
    exec_ = Exec(client)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            pod = Container("shop", f"orders-{number}", "app", node=f"node-{number}")
            group.create_task(exec_.run(pod, ["true"], timeout=30))
        await until(lambda: ends.running == 32)
        with pytest.raises(Unavailable, match='32 commands running on cluster "fake"'):
            await exec_.run(Container("shop", "late", "app"), ["true"], timeout=0.1)
        ends.may_end.set()
    assert ends.most == 32


async def test_a_canceled_run_leaves_nothing(api: FakeApi, client: Client) -> None:
    api.on_exec = ends = Ends()
    exec_ = Exec(client)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(exec_.run(POD, ["true"], timeout=30))
        await until(lambda: ends.running == 1)
        task.cancel()
    ends.may_end.set()
    await until(lambda: exec_.counts.in_flight == 0)


async def test_a_held_command_tells_its_end_and_takes_no_place(api: FakeApi, client: Client) -> None:
    end = asyncio.Event()

    async def forwarder(call: Call) -> None:
        call.upgrade(then=frame(b"\x01port 25") + frame(b"\x01005\ndone\n") + frame(b"\x02a warning"))
        await end.wait()
        call.writer.write(status(7))
        await call.until_closed()

    api.on_exec = forwarder
    exec_ = Exec(client)
    ends: list[int | NoahError] = []
    held = [
        await exec_.hold(POD, ["sh"], until="done", first_line_timeout=30, on_end=ends.append) for _ in range(8 + 1)
    ]
    assert {one.lines for one in held} == {("port 25005",)}
    assert exec_.counts.in_flight == 9
    end.set()
    for one in held:
        await asyncio.wait_for(one.ended.wait(), 30)
        assert one.how == 7
        assert one.stderr == "a warning"
    assert ends == [7] * 9
    await until(lambda: exec_.counts.in_flight == 0)


async def test_a_first_line_that_comes_with_the_end_is_not_lost(api: FakeApi, client: Client) -> None:
    api.on_exec = answers(frame(b"\x01port 1\ndone\n") + frame(b"\x03\xe8", CLOSE))
    ends: list[int | NoahError] = []
    held = await Exec(client).hold(POD, ["sh"], until="done", first_line_timeout=30, on_end=ends.append)
    assert held.has_come
    assert held.lines == ("port 1",)
    assert isinstance(held.how, ExecCut)
    assert ends == [held.how]


async def test_a_stream_that_is_cut_before_its_first_line_never_began(api: FakeApi, client: Client) -> None:
    api.on_exec = answers(frame(b"\x01port 1\n") + frame(b"\x03\xe8", CLOSE))
    ends: list[int | NoahError] = []
    with pytest.raises(ExecCut):
        await Exec(client).hold(POD, ["sh"], until="done", first_line_timeout=30, on_end=ends.append)
    assert ends == []


async def test_a_held_stream_that_is_cut_says_that_nobody_knows(api: FakeApi, client: Client) -> None:
    async def gateway_loses_it(call: Call) -> None:
        call.upgrade(then=frame(b"\x01done\n"))

    api.on_exec = gateway_loses_it
    ends: list[int | NoahError] = []
    held = await Exec(client).hold(POD, ["sh"], until="done", first_line_timeout=30, on_end=ends.append)
    await asyncio.wait_for(held.ended.wait(), 30)
    assert isinstance(held.how, ExecCut)
    assert ends == [held.how]


async def test_a_command_that_ends_before_its_first_lines_tells_what_it_said(api: FakeApi, client: Client) -> None:
    api.on_exec = answers(frame(b"\x01error no-socat\nunfinished") + status(1))
    held = await Exec(client).hold(POD, ["sh"], until="done", first_line_timeout=30)
    assert (held.how, held.lines, held.has_come) == (1, ("error no-socat", "unfinished"), False)


async def test_a_command_without_its_first_lines_is_not_waited_for(api: FakeApi, client: Client) -> None:
    async def mumble(call: Call) -> None:
        call.upgrade(then=frame(b"\x01not yet done\n"))
        await call.until_closed()

    api.on_exec = mumble
    exec_ = Exec(client)
    with pytest.raises(Unavailable, match=r"sh in .* did not say 'done' within 0"):
        await exec_.hold(POD, ["sh"], until="done", first_line_timeout=0.1)
    await until(lambda: exec_.counts.in_flight == 0)


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_a_held_command_takes_lines_and_answers_them(api: FakeApi, client: Client, protocol: str) -> None:
    came: list[bytes] = []

    async def forwarder(call: Call) -> None:
        call.upgrade(protocol, then=frame(b"\x01port 1\ndone\nattach"))
        while (got := await call.frame())[0] != CLOSE:
            if len(got[1]) > 1:  # a heartbeat of the stream is an empty message
                came.append(got[1])
                call.writer.write(frame(b"\x01ed\nack " + got[1][1:3] + b"\n"))
        call.writer.write(frame(got[1], CLOSE))

    api.on_exec = forwarder
    lines: list[str] = []
    held = await Exec(client).hold(
        POD, ["sh"], stdin=b"script\n", keep_stdin=True, until="done", first_line_timeout=30, on_line=lines.append
    )
    assert held.lines == ("port 1",)
    held.write(b"suspended 1\n")
    held.write(b"running 2\n")
    await until(lambda: len(came) == 3)
    assert came == [b"\x00script\n", b"\x00suspended 1\n", b"\x00running 2\n"], "stdin was not closed between them"
    await until(lambda: len(lines) >= 4)
    assert lines[:2] == ["attached", "ack sc"]
    await held.close()
    with pytest.raises(ExecCut, match="has been closed"):
        held.write(b"running 3\n")


async def test_a_line_without_an_end_closes_the_held_stream_with_a_sentence(api: FakeApi, client: Client) -> None:
    api.on_exec = answers(frame(b"\x01done\nfine\n") + frame(b"\x01" + b"x" * 4000) + frame(b"\x01" + b"x" * 4000))
    lines: list[str] = []
    ends: list[int | NoahError] = []
    exec_ = Exec(client)
    held = await exec_.hold(POD, ["sh"], until="done", first_line_timeout=30, on_end=ends.append, on_line=lines.append)
    await asyncio.wait_for(held.ended.wait(), 30)
    assert "printed a line of more than 4 KiB" in str(held.how)
    assert (lines, ends) == (["fine"], [held.how])
    await until(lambda: exec_.counts.in_flight == 0)


async def test_a_held_command_that_takes_no_more_lines_is_stuck(api: FakeApi, client: Client) -> None:
    async def never_reads(call: Call) -> None:
        call.upgrade(then=frame(b"\x01done\n"))
        await call.hang()

    api.on_exec = never_reads
    ends: list[int | NoahError] = []
    exec_ = Exec(client)
    held = await exec_.hold(POD, ["sh"], keep_stdin=True, until="done", first_line_timeout=30, on_end=ends.append)
    lines = (b"running 1\n" * 100 for _ in range(100_000))
    with pytest.raises(ExecCut, match="has not taken the last 16 KiB of its stdin"):
        collections.deque(map(held.write, lines), maxlen=0)
    assert held.ended.is_set()
    assert ends == [held.how]
    with pytest.raises(ExecCut):
        held.write(b"running 2\n")
    await until(lambda: exec_.counts.in_flight == 0)


async def test_a_held_command_that_has_ended_takes_no_lines(api: FakeApi, client: Client) -> None:
    api.on_exec = answers(frame(b"\x01done\n") + status(3))
    held = await Exec(client).hold(POD, ["sh"], keep_stdin=True, until="done", first_line_timeout=30)
    await asyncio.wait_for(held.ended.wait(), 30)
    with pytest.raises(ExecCut, match="has ended"):
        held.write(b"running 1\n")


async def test_closing_a_held_stream_tells_nobody(api: FakeApi, client: Client) -> None:
    api.on_exec = answers(frame(b"\x01done\n"))
    ends: list[int | NoahError] = []
    exec_ = Exec(client)
    held = await exec_.hold(POD, ["sh"], until="done", first_line_timeout=30, on_end=ends.append)
    await held.close()
    await held.close()
    assert ends == []
    assert exec_.counts.in_flight == 0


async def test_streams_end_with_their_client(api: FakeApi) -> None:
    api.on_exec = answers(frame(b"\x01done\n"))
    async with Client(api.settings) as client:
        exec_ = Exec(client)
        held = await exec_.hold(POD, ["sh"], until="done", first_line_timeout=30)
    assert isinstance(held.how, ExecCut)
    assert exec_.counts.in_flight == 0


def answers(wire: bytes) -> Answer:
    async def answer(call: Call) -> None:
        call.upgrade(then=wire)
        await call.until_closed()

    return answer


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)
