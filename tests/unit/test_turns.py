"""noah/turns.py: work of many pieces, between which everybody else is served."""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise

from noah.turns import GAP_S, PAUSE_S, TURN_S, in_turns, turn, turns


def busy(count: int) -> Iterator[int]:
    """Yield pieces of work that take a turn each."""
    for number in range(count):
        until = time.perf_counter() + 1.1 * TURN_S
        while time.perf_counter() < until:
            pass
        yield number


async def test_however_many_work_one_turn_passes_between_two_passes_of_the_loop() -> None:
    done, passes, is_over = 0, list[int](), False

    async def work() -> None:
        nonlocal done
        async for _ in in_turns(busy(20)):
            done += 1

    def look() -> None:
        passes.append(done)
        if not is_over:
            asyncio.get_running_loop().call_soon(look)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for _ in range(10)]
        look()
        await asyncio.wait(tasks)
        is_over = True
    assert done == 200
    assert max(after - before for before, after in pairwise(passes)) == 1


async def test_each_gets_its_turn_in_the_order_in_which_they_came() -> None:
    turns = list[int]()

    async def work(number: int) -> None:
        async for _ in in_turns(busy(3)):
            turns.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(work(number))
    assert turns == [0, 1, 2] * 3


async def test_one_that_is_cancelled_while_it_waits_holds_up_nobody() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(turn()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in (tasks[0], tasks[2], tasks[4]):
            task.cancel()
    assert [task.cancelled() for task in tasks] == [True, False, True, False, True]
    await turn()


def test_a_loop_that_was_closed_while_some_waited_leaves_the_next_one_alone() -> None:
    for _ in range(2):
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(turn())
        loop.run_until_complete(asyncio.sleep(0))
        waiting.cancel()
        loop.run_until_complete(asyncio.wait([waiting]))
        loop.close()
    asyncio.run(turn())


async def test_pieces_come_in_their_order_and_a_reader_may_stop_early() -> None:
    assert [piece async for piece in in_turns(range(1000))] == list(range(1000))
    async for piece in in_turns(range(10)):
        if piece == 3:
            break
    assert [piece async for piece in in_turns("ab")] == ["a", "b"]


async def test_while_a_debugger_talks_turns_are_apart() -> None:
    async def talk() -> None:
        while True:
            turns().asked()
            await asyncio.sleep(0)
            turns().answered()
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(talk())
    await asyncio.sleep(0)
    began = time.perf_counter()
    async for _ in in_turns(busy(50)):
        pass
    task.cancel()
    assert time.perf_counter() - began > 50 * GAP_S


async def test_nobody_has_a_turn_until_an_answer_has_come_or_is_late() -> None:
    is_answered, asked_at = False, time.perf_counter()

    async def work() -> None:
        await turn()
        assert is_answered or time.perf_counter() - asked_at > PAUSE_S / 2

    async with asyncio.TaskGroup() as group:
        turns().asked()
        group.create_task(work())
        for _ in range(5):
            await asyncio.sleep(0)
            turns().asked()
        is_answered = True
        turns().answered()
    turns().asked()
    async with asyncio.timeout(20):
        await turn()


async def test_a_debugger_that_never_stops_asking_leaves_others_a_turn_every_few_milliseconds() -> None:
    loop, is_over = asyncio.get_running_loop(), False

    def ask() -> None:
        turns().asked()
        if not is_over:
            loop.call_soon(ask)

    ask()
    async with asyncio.timeout(30):
        for _ in range(20):
            await turn()
    is_over = True
