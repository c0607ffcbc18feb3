"""Gateways of two versions side by side, as while they are replaced: the one before the last revision, and this one."""

import asyncio
import io
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import Watcher
from tests.conftest import NEEDS_HISTORY
from tests.jdwp import CLASSES_BY_SIGNATURE, Debugger, string
from tests.postgres import Postgres
from tests.replicas import Replica, Replicas, as_config, jvms, replicas, until

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[3]
VERSIONS = "noah/store/migrations/versions"
WITHIN_S = 90  # on a busy machine


def newest_revision() -> str:
    return max(path.name for path in (ROOT / VERSIONS).glob("*.py"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with jvms(tmp_path_factory.mktemp("classes"), "Orders", "Stock") as ports:
        yield ports


def git(*argv: str) -> bytes:
    """Run git in this checkout, also if another user owns it. Skips where git does not know."""
    try:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(ROOT), *argv], check=False, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip(f"{NEEDS_HISTORY}git is not installed, so the version before is not known")
    if done.returncode:
        pytest.skip(f"{NEEDS_HISTORY}git knows no version before: {done.stderr.decode(errors='replace').strip()[:300]}")
    return done.stdout


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway before the commit that added the newest revision of the database, in a folder of its own."""
    newest = newest_revision()
    added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", f"{VERSIONS}/{newest}").decode().strip()
    # In a shallow clone everything seems to be added by its oldest commit, which seems to have none before it.
    if not added or not git("rev-list", "--parents", "-1", added).decode().split()[1:]:
        pytest.skip(
            f"{NEEDS_HISTORY}that of this checkout ends before {newest} was added: fetch more (git fetch --unshallow)"
        )
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{added}^", "noah"))) as archive:
        archive.extractall(folder, filter="data")
    assert not (folder / VERSIONS / newest).exists()
    if not (folder / "noah/store/lease.py").exists():  # where commits were joined into one
        pytest.skip(f"{NEEDS_HISTORY}the version before {newest} in this one does not know of several gateways")
    return folder


def make_old(gateway: Replica, version: Path) -> None:
    gateway.env |= {"PYTHONPATH": str(version), "PYTHONSAFEPATH": "1"}


async def upgraded(gateway: Replica) -> None:
    """Run `noah db upgrade` of the gateway's version."""
    code, said = await gateway.noah("db", "upgrade", "--config", str(gateway.file))
    assert code == 0, said


async def debugs(debugger: Debugger, name: str) -> None:
    found = await asyncio.to_thread(debugger.ask, CLASSES_BY_SIGNATURE, string(f"L{name};"))
    assert found[:4] == b"\0\0\0\1"


async def debugged_through(gateway: Replica, session: dict[str, Any], name: str) -> None:
    debugger = await asyncio.to_thread(Debugger, session["port"], host=gateway.host)
    with debugger:
        await debugs(debugger, name)
        await gateway.api.until(session, "attached", within=WITHIN_S)
    await gateway.api.until(session, "ready", within=WITHIN_S)


async def extended_by(gateway: Replica, session: dict[str, Any], both: Replicas) -> None:
    extended = await gateway.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "2h"})
    assert extended["expires_at"] > session["expires_at"]
    assert (await both.shown_alike(session))[0]["expires_at"] == extended["expires_at"]


async def test_the_version_before_and_this_one_serve_one_database(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path, version_before: Path
) -> None:
    async with (
        replicas(
            postgres, postgres_url, tmp_path, count=2, config=as_config(targets), start=False, is_empty=True
        ) as both,
        asyncio.TaskGroup() as group,
    ):
        old, new = both.gateways
        make_old(old, version_before)
        newest = newest_revision()[:4]
        await upgraded(old)
        ((before,),) = postgres.ask("SELECT version_num FROM alembic_version", url=postgres_url)
        assert before < newest
        await old.start()
        watching = group.create_task(Watcher(both).run(), name="watch events at each of them in turn")
        session = await old.api.ready("local/orders")

        debugger = await asyncio.to_thread(Debugger, session["port"], host=old.host)
        with debugger:
            await old.api.until(session, "attached", within=WITHIN_S)
            await upgraded(new)
            ((after,),) = postgres.ask("SELECT version_num FROM alembic_version", url=postgres_url)
            assert after == newest
            await new.start()
            await debugs(debugger, "Orders")
            assert await old.is_ready()
            assert (await new.api.until(session, "attached", within=WITHIN_S))["port"] == session["port"]
            # What only the session's gateway can do is asked of it by the other one.
            resumed = await new.api.ask("POST", f"sessions/{session['id']}/resume", {})
            assert resumed["attached"] is None
        stock = await new.api.ready("local/stock")
        for gateway, one in ((old, session), (new, stock)):
            assert await both.owner_of(one) is gateway
        await old.api.until(stock, "ready", within=WITHIN_S)
        await extended_by(new, session, both)
        await extended_by(old, stock, both)
        await debugged_through(new, session, "Orders")
        await debugged_through(old, stock, "Stock")
        await new.api.until(session, "ready", within=WITHIN_S)
        assert (await new.api.end(session))["end_reason"] == "closed"
        await old.api.until(session, "ended", within=WITHIN_S)
        session = await old.api.ready("local/orders")

        # The new one is killed: the old one goes on with its session.
        await new.stop(signal.SIGKILL)
        assert await both.new_owner_of(stock, after=new) is old
        await old.api.until(stock, "ready", within=WITHIN_S)
        await debugged_through(old, stock, "Stock")

        # The old one stops: the new one has both.
        await new.start()
        await until(lambda: _shown_ready(new, session, stock), WITHIN_S)
        assert await asyncio.wait_for(old.stop(), WITHIN_S) == 0
        for one in (session, stock):
            assert await both.owner_of(one) is new
            assert (await new.api.until(one, "ready", within=WITHIN_S))["port"] == one["port"]
        await debugged_through(new, session, "Orders")

        # An old one is started once more: it serves the newer database, and leaves it as it is.
        await upgraded(old)
        assert postgres.ask("SELECT version_num FROM alembic_version", url=postgres_url) == [(newest,)]
        await old.start()
        await debugged_through(old, session, "Orders")
        assert (await old.api.end(stock))["end_reason"] == "closed"
        stock = await old.api.ready("local/stock")
        assert await both.owner_of(stock) is old

        # It is killed: the new one takes over what the old one had written, and its port.
        await old.stop(signal.SIGKILL)
        assert await both.new_owner_of(stock, after=old) is new
        assert (await new.api.until(stock, "ready", within=WITHIN_S))["port"] == stock["port"]
        await debugged_through(new, stock, "Stock")
        for one in (session, stock):
            ended = await new.api.end(one)
            assert (ended["status"], ended["end_reason"]) == ("ended", "closed")
        await until(lambda: _shown_nothing(new), WITHIN_S)
        watching.cancel()
    assert all("Traceback" not in gateway.log.read_text() for gateway in both.gateways)


async def _shown_nothing(gateway: Replica) -> bool:
    return not (await gateway.api.ask("GET", "sessions"))["items"]


async def _shown_ready(gateway: Replica, *sessions: dict[str, Any]) -> bool:
    return {(await gateway.api.show(one))["status"] for one in sessions} == {"ready"}
