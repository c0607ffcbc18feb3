import asyncio

import pytest

from noah.backoff import Backoff
from noah.keep_running import keep_running


def test_a_pause_doubles_to_its_limit_and_begins_again_after_a_success() -> None:
    backoff = Backoff(first_s=0.5, longest_s=4)
    for limit in (0.5, 1, 2, 4, 4):
        assert limit / 2 <= backoff.next_s() <= limit
    assert backoff.failures == 5
    backoff.reset()
    assert backoff.failures == 0
    assert 0.25 <= backoff.next_s() <= 0.5


def test_a_pause_stays_at_its_limit_however_often_it_fails() -> None:
    backoff = Backoff(first_s=0.001, longest_s=30)
    assert all(backoff.next_s() <= 30 for _ in range(5000))
    assert backoff.next_s() >= 15


def test_two_that_fail_together_do_not_come_back_together() -> None:
    pauses = {Backoff(first_s=10, longest_s=10).next_s() for _ in range(100)}
    assert len(pauses) > 90
    assert max(pauses) - min(pauses) > 2


async def test_a_task_that_fails_is_logged_and_runs_again_until_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    failures = [ValueError("the first"), LookupError("the second")]

    async def work() -> None:
        if failures:
            raise failures.pop(0)

    await keep_running(work, "the work")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError, LookupError]


async def test_a_task_that_is_cancelled_does_not_run_again() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await keep_running(work, "the work")
