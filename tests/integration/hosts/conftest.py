import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.hosts.machines import HostedOrders, Machine, classes_in, new_root, remove


@pytest.fixture
async def root() -> AsyncIterator[Path]:
    if shutil.which("/usr/sbin/sshd") is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    root = new_root()
    yield root
    remove(root)


@pytest.fixture
async def machine(root: Path) -> AsyncIterator[Machine]:
    machine = Machine(1, root)
    await machine.install()
    try:
        await machine.start()
        yield machine
    finally:
        await machine.kill()


@pytest.fixture
async def orders(machine: Machine, root: Path) -> AsyncIterator[HostedOrders]:
    """The app, not started yet."""
    orders = HostedOrders(machine)
    await orders.install(classes_in(root))
    yield orders
    orders.kill()
