"""Apps that the SSH user alone may not touch: by a real sudo, and by units of systemd.

systemd does not run in a container: a stand-in for its `systemctl restart` reads a unit as systemd would.
"""

import asyncio
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway import Refused, serving
from tests.integration.hosts.machines import HostedOrders, Machine, ordinary_user
from tests.integration.hosts.test_hosts import at_a_breakpoint

SUDOERS = Path("/etc/sudoers.d")
BECOME = 'become = ["sudo", "-n"]\n'
SYSTEMCTL = """#!/usr/bin/env python3
# systemctl restart UNIT, as far as a simple service goes: ends its process, reads its EnvironmentFile, starts it.
import os, re, shlex, signal, subprocess, sys, time
verb, name = sys.argv[1:]
folder = os.path.dirname(os.path.abspath(__file__))
unit = dict(re.findall(r"(?m)^(\\w+)=(.*)$", open(f"{folder}/{name}").read()))
if verb != "restart":
    sys.exit(f"Unknown command verb {verb}.")
pid = int(open(unit["PIDFile"]).read() or 0) if os.path.exists(unit["PIDFile"]) else 0
while pid and os.path.exists(f"/proc/{pid}/exe"):
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.05)
# No shell reads the file: `$X` stays, quotes go, and what is not an assignment is left out.
lines = open(unit["EnvironmentFile"], encoding="latin-1").read().splitlines()
given = {k: "".join(shlex.split(v, posix=True)) if v[:1] in "'\\"" else v
         for k, v in re.findall(r"(?m)^\\s*(\\w+)=(.*?)\\s*$", "\\n".join(lines))}
argv = []
for word in shlex.split(unit["ExecStart"]):
    argv += given.get(word[1:], "").split() if word.startswith("$") else [word]
log = open(unit["Log"], "ab")
process = subprocess.Popen(argv, env={**os.environ, **given}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                           start_new_session=True)
open(unit["PIDFile"], "w").write(str(process.pid))
"""

pytestmark = [
    pytest.mark.jvm,
    pytest.mark.skipif(os.getuid() != 0, reason="only root gives a user rights by sudo"),
    pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed"),
]


@pytest.fixture
def sudo() -> Iterator[Path]:
    """The file that gives the user rights; not there yet."""
    file = SUDOERS / f"noah-test-{os.getpid()}"
    yield file
    file.unlink(missing_ok=True)


def give(file: Path, rule: str) -> None:
    file.write_text(f"{ordinary_user()} ALL=(root) NOPASSWD: {rule}\n")
    file.chmod(0o440)


def belongs_to_root(orders: HostedOrders) -> None:
    """All of it, as of an app that root starts."""
    for path in (orders.folder, *orders.folder.iterdir()):
        os.chown(path, 0, 0)
        path.chmod(0o700 if path.is_dir() else 0o600)
    # The folders above as well: who owns one of those could put another in its place.
    for above in (orders.folder.parent, orders.folder.parent.parent):
        os.chown(above, 0, 0)


async def started_by_root(orders: HostedOrders) -> None:
    process = await asyncio.create_subprocess_exec(
        "sh", f"{orders.folder}/orders.sh", stdout=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    async with asyncio.timeout(60):
        while not await orders.answers():
            await asyncio.sleep(0.05)


async def test_what_the_user_may_not_touch_is_done_by_sudo(
    tmp_path: Path, machine: Machine, orders: HostedOrders, sudo: Path
) -> None:
    belongs_to_root(orders)
    await started_by_root(orders)
    before, pid = orders.state(), orders.pid
    config = machine.settings(BECOME, orders.settings(), ends="revert")
    async with serving(tmp_path, config) as (_, api):
        await orders.has_settled()
        with pytest.raises(Refused, match=r"cannot run commands by `sudo -n`.*password is required") as refused:
            await api.enable(orders.target)
        assert refused.value.status == 422
        [drift] = (await api.ask("POST", "drift"))["items"]
        assert (drift["finding"], "password is required" in drift["detail"]) == ("unknown", True)
        give(sudo, "ALL")
        session = await api.ready(orders.target, confirm_restart=True)
        assert orders.pid != pid
        assert orders.state()[1:] == before[1:]
        async with at_a_breakpoint(orders, session):
            await api.until(session, "suspended")
            async with asyncio.timeout(60):
                while not await orders.probe_says_alive():
                    await asyncio.sleep(0.1)
        ended = await api.end(session)
        assert ended["status"] == "ended", ended
    assert orders.state() == before
    assert "jdwp" not in orders.command_line()
    assert await orders.answers()


@pytest.mark.soak
async def test_rights_that_are_lost_on_the_way_leave_an_edit_that_is_taken_back_with_them(
    tmp_path: Path, machine: Machine, orders: HostedOrders, sudo: Path
) -> None:
    belongs_to_root(orders)
    await started_by_root(orders)
    before = orders.state()
    give(sudo, "ALL")
    async with serving(tmp_path, machine.settings(BECOME, orders.settings())) as (process, api):
        await orders.has_settled()
        (orders.folder / "hold").touch()
        session = await api.enable(orders.target, confirm_restart=True, wait=0)
        async with asyncio.timeout(60):
            while b"jdwp" not in orders.file.read_bytes():
                await asyncio.sleep(0.05)
        await process.stop(signal.SIGKILL)
        give(sudo, "/bin/false")
        await process.start()
        ended = await api.until(session, "ended")
        assert (ended["end_reason"], "cannot run commands" in ended["end_detail"]) == ("failed", True)
        give(sudo, "ALL")
        (orders.folder / "hold").unlink()
        async with asyncio.timeout(60):
            while orders.state() != before or not await orders.answers() or "jdwp" in orders.command_line():
                await asyncio.sleep(0.1)


async def test_a_unit_is_restarted_by_a_stand_in_for_systemctl_as_root(
    tmp_path: Path, machine: Machine, orders: HostedOrders, sudo: Path
) -> None:
    give(sudo, "ALL")
    tools = machine.folder / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text(SYSTEMCTL)
    (tools / "systemctl").chmod(0o755)
    start = (orders.folder / "orders.sh").read_text()
    classes = shlex.split(start[start.index("-cp ") :])[1]
    (tools / "orders.service").write_text(
        f"[Service]\nEnvironmentFile={orders.file}\nExecStart=java -Xmx64m $JAVA_OPTS -cp {classes} OrderService\n"
        f"PIDFile={orders.folder}/pid\nLog={orders.folder}/app.log\n"
    )
    orders.file.write_bytes(b"# units have no shell\nPORT=%d\nJAVA_OPTS=-Dshop=$HOME -Dx=y\n" % orders.port)
    belongs_to_root(orders)
    become = ["sudo", "-n", "/usr/bin/env", f"PATH={tools}:{os.environ['PATH']}"]
    given = orders.settings(unit="orders.service").replace(f'restart = "sh {orders.folder}/orders.sh"\n', "")
    before = orders.state()
    await asyncio.to_thread(os.spawnv, os.P_WAIT, f"{tools}/systemctl", ["systemctl", "restart", "orders.service"])
    async with serving(tmp_path, machine.settings(f"become = {become}\n", given, ends="revert")) as (_, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        assert "-Dshop=$HOME" in orders.command_line()
        async with at_a_breakpoint(orders, session):
            await api.until(session, "suspended")
        await api.end(session)
    assert orders.state() == before
    assert "jdwp" not in orders.command_line()
