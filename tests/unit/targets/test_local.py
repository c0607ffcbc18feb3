"""JVMs of this machine in a listing: there as long as their port is."""

import asyncio
import socket

from noah.catalog.catalog import Catalog
from noah.core.session.target import LocalTarget
from noah.settings import parse_settings
from noah.targets.local import Locals
from tests.ports import free_port


def listed(jdwp: int) -> tuple[bool, str]:
    settings = parse_settings({"local": [{"name": "orders", "jdwp_port": jdwp}]}, origin="test")
    catalog = Catalog()
    Locals(settings.local, catalog=catalog)
    info = catalog.get(LocalTarget("orders"))
    assert info is not None
    return info.ready, info.phase


def test_a_local_jvm_is_listed_as_down_until_it_listens() -> None:
    port = free_port()
    assert listed(port) == (False, "Down")
    with socket.create_server(("127.0.0.1", port)):
        assert listed(port) == (True, "Running")
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        assert listed(port) == (True, "Running")
    assert listed(port) == (False, "Down")


async def test_an_agent_that_has_its_debugger_and_listens_no_more_is_still_there() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    _, debugger = await asyncio.open_connection("127.0.0.1", port)
    with server, server.accept()[0]:
        server.close()
        assert listed(port) == (True, "Running")
    debugger.close()
    await debugger.wait_closed()
