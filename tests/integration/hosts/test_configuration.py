"""What becomes of sessions and edits when the configuration of their host changes under them."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import Api, Process, serving
from tests.integration.hosts.machines import HostedOrders, Machine
from tests.integration.hosts.test_faults import until

pytestmark = pytest.mark.jvm


async def restarted_with(process: Process, before: str, after: str) -> None:
    """As after a crash, with another configuration."""
    await process.stop(signal.SIGKILL)
    text = process.file.read_text()
    assert before in text
    process.file.write_text(text.replace(before, after))
    await process.start()


async def drift(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.ask("POST", "drift"))["items"]
    return found


async def test_a_host_that_left_the_configuration_is_put_back_when_it_returns(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    before = orders.state()
    config = machine.settings(orders.settings())
    async with serving(tmp_path, config) as (process, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        await restarted_with(process, config, "")
        ended = await api.until(session, "ended")
        assert (ended["end_reason"], orders.target in ended["end_detail"]) == ("target_gone", True)
        [found] = await drift(api)
        assert (found["target"], found["finding"]) == (orders.target, "not-configured")
        assert str(orders.file) in found["detail"]
        assert b"jdwp" in orders.file.read_bytes()
        await process.stop()
        process.file.write_text(process.file.read_text() + config)
        await process.start()
        await until(lambda: orders.state() == before)
        assert await drift(api) == []


async def test_an_edit_is_taken_out_of_the_file_that_it_was_put_into(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    before = orders.state()
    (orders.folder / "other.env").write_text('JAVA_OPTS=""\n')
    async with serving(tmp_path, machine.settings(orders.settings())) as (process, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        await restarted_with(process, str(orders.file), str(orders.folder / "other.env"))
        ended = await api.end(session)
        assert ended["status"] == "ended", ended
    assert orders.state() == before
