"""Other users of the gateway's machine: its loopback and its folders are theirs as well."""

import asyncio
import contextlib
import os
import re
import socket
import stat
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from noah.errors import BadSettings, Unavailable
from noah.proxy.listener import Listener
from noah.proxy.local_peer import NOBODY, uid_of_peer, user_that_listens
from noah.proxy.slot import Slot
from noah.store import Store, upgrade
from noah.store.lease import exclusive_lease
from noah.webhook.certificates import Certificates

as_root = pytest.mark.skipif(os.getuid() != 0, reason="other users take root")
STRANGER = 61234
CONNECT = """import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as jdb:
    jdb.sendall(b"JDWP-Handshake")
    sys.stdout.write(str(len(jdb.recv(99))))
"""


async def connect_as(uid: int, host: str, port: int) -> bytes:
    """Return how many bytes that user's debugger got, or nothing if it was hung up on."""
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", CONNECT, host, str(port), stdout=-1, stderr=-1, user=uid, group=uid
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return out


@contextlib.asynccontextmanager
async def listening(host: str, allowed: set[int]) -> AsyncIterator[tuple[Slot, int]]:
    async def refuse(factory: object) -> asyncio.Transport:
        raise OSError("there is not a JVM here")

    slot = Slot(
        session_id="s",
        dial=refuse,
        allow_exit=False,
        clock=lambda: datetime.now(UTC),
        changed=lambda: None,
        noticed=lambda kind, data: None,
    )
    await slot.open()
    listener = Listener(slot, host=host, port=0, admits=lambda host: True, admits_user=lambda uid: uid in allowed)
    await listener.open()
    try:
        yield slot, listener.port
    finally:
        listener.close()
        await slot.close("over")


@as_root
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_another_user_of_the_machine_does_not_get_to_a_loopback_sessions_jvm(host: str) -> None:
    async with listening(host, {os.getuid()}) as (slot, port):
        await connect_as(STRANGER, host, port)
        assert slot.refused == Counter(other_user=1)
        await connect_as(os.getuid(), host, port)
        async with asyncio.timeout(20):
            while not slot.refused["upstream_failed"]:
                await asyncio.sleep(0.01)
        assert slot.refused["other_user"] == 1


@as_root
async def test_who_sends_commands_and_closes_at_once_is_not_taken_for_root() -> None:
    """The kernel writes 0 for the user of a socket that its program has closed."""
    blind = f"{CONNECT.partition('    sys')[0].replace('len(jdb.recv(99))', '')}    jdb.sendall(bytes(99))\n"
    async with listening("127.0.0.1", {0, os.getuid()}) as (slot, port):
        argv = ["/usr/bin/python3", "-c", blind, "127.0.0.1", str(port)]
        # The loop stands still meanwhile: it sees the connection only when it has been closed.
        subprocess.run(argv, check=True, user=STRANGER, group=STRANGER)  # noqa: ASYNC221
        async with asyncio.timeout(20):
            while not slot.refused:
                await asyncio.sleep(0.01)
        assert slot.refused == Counter(other_user=1)


async def test_whose_a_connection_is_is_found_among_thousands() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert uid_of_peer(client.getsockname(), client.getpeername()) == os.getuid()
        assert uid_of_peer(("192.0.2.7", 4711), server.getsockname()) is None
        assert uid_of_peer(("127.0.0.1", 1), server.getsockname()) == NOBODY


def test_who_listens_at_a_debug_port_first_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert user_that_listens(server.getsockname()[1]) == os.getuid()
    assert user_that_listens(1) is None


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


async def test_the_database_and_its_lock_are_for_nobody_else(tmp_path: Path) -> None:
    database = tmp_path / "noah.db"
    (tmp_path / "noah.db-gateway").touch(0o644)
    (tmp_path / "noah.db-gateway").chmod(0o644)
    before = os.umask(0o022)
    try:
        await asyncio.to_thread(upgrade, f"sqlite:///{database}")
        store = Store.open(f"sqlite:///{database}")
        async with exclusive_lease(f"sqlite:///{database}"):
            await store.check()
            names = ("noah.db", "noah.db-gateway", "noah.db-wal", "noah.db-shm")
            assert {name: mode(tmp_path / name) for name in os.listdir(tmp_path)} == dict.fromkeys(names, 0o600)
        await store.close()
        database.chmod(0o644)  # as earlier versions made it
        store = Store.open(f"sqlite:///{database}")
        assert mode(database) == 0o640
        await store.close()
    finally:
        os.umask(before)


@as_root
async def test_another_user_cannot_hold_the_databases_lock(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        os.chmod(folder, 0o755)
    async with exclusive_lease(f"sqlite:///{tmp_path / 'noah.db'}"):
        pass
    hold = f"import fcntl, sys; fcntl.flock(open({str(tmp_path / 'noah.db-gateway')!r}), fcntl.LOCK_EX)"
    held = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", hold, user=STRANGER, group=STRANGER, stderr=-1
    )
    _, said = await held.communicate()
    assert b"PermissionError" in said


async def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("")
    (tmp_path / "noah.db-gateway").symlink_to(theirs)
    with pytest.raises(Unavailable):
        async with exclusive_lease(f"sqlite:///{tmp_path / 'noah.db'}"):
            pass


def test_a_link_at_the_name_of_a_key_that_is_being_written_is_not_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    folder = tmp_path / "webhook"
    folder.mkdir(mode=0o700)
    for name in ("authority.key.part", "authority.crt.part", "path.part"):
        (folder / name).symlink_to(theirs)
    certificates = Certificates(folder, ["127.0.0.1"])
    certificates.authority(datetime.now(UTC))
    assert re.fullmatch(r"[a-z0-9]{32,}", certificates.path_token())  # what an API server takes in a Service's path
    assert theirs.read_text() == "theirs"
    assert mode(folder / "authority.key") == 0o600


@as_root
@pytest.mark.parametrize(("owner", "permissions"), [(STRANGER, 0o700), (0, 0o777)])
def test_a_folder_for_keys_that_another_user_may_write_to_is_refused(
    tmp_path: Path, owner: int, permissions: int
) -> None:
    folder = tmp_path / "webhook"
    folder.mkdir()
    folder.chmod(permissions)
    os.chown(folder, owner, owner)
    with pytest.raises(BadSettings):
        Certificates(folder, ["127.0.0.1"]).authority(datetime.now(UTC))
