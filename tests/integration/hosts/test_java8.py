"""Java 8 on a host: it gets the flags in the spelling that it has always known."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from noah.core.host import options
from tests.cluster.conftest import Kubectl, kubeconfig, kubectl, make_namespace
from tests.gateway import serving
from tests.integration.hosts.machines import HostedOrders, Machine, own
from tests.integration.hosts.test_hosts import at_a_breakpoint

__all__ = ["kubeconfig", "kubectl", "make_namespace"]

pytestmark = pytest.mark.jvm

JAVA_8 = "/usr/lib/jvm/java-8-openjdk-amd64/jre/bin/java"
# Its C library, which is newer than this machine's may be, comes with it; so it has a root of its own.
WITH_ITS_OWN_ROOT = """#!/bin/sh
exec unshare -rm sh -c 'mount --rbind /proc "$0/proc" && exec unshare -R "$0" "$@"' {root} {java} "$@"
"""
FILES = ["usr/lib/jvm", "etc/java-8-openjdk", "lib", "lib64", "usr/lib/x86_64-linux-gnu", "usr/lib64"]


def starts(orders: HostedOrders, java: str) -> None:
    script = orders.folder / "orders.sh"
    script.write_text(script.read_text().replace("setsid java", f"setsid {java}"))


async def debugged_and_reverted(folder: Path, machine: Machine, orders: HostedOrders) -> None:
    await orders.restart()
    before = orders.state()
    async with serving(folder, machine.settings(orders.settings(), ends="revert")) as (_, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        flags = options.CLASSIC.format(port=orders.jdwp)
        assert flags in orders.file.read_text("latin-1")
        assert flags.replace(" ", "\0") in orders.command_line()
        async with at_a_breakpoint(orders, session):
            await api.until(session, "suspended")
        await api.end(session)
    assert orders.state() == before
    assert "jdwp" not in orders.command_line()


@pytest.mark.soak  # the real one is asked below
async def test_a_jdk_that_says_it_is_8_gets_the_old_spelling(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    home = machine.folder / "jdk8"
    posing_as_8(home)
    starts(orders, str(home / "bin/java"))
    await debugged_and_reverted(tmp_path, machine, orders)


def posing_as_8(home: Path) -> None:
    real = Path(shutil.which("java") or "").resolve().parents[1]
    (home / "bin").mkdir(parents=True)
    shutil.copy(real / "bin/java", home / "bin/java")
    (home / "lib").symlink_to(real / "lib")
    (home / "conf").symlink_to(real / "conf")
    (home / "release").write_text('JAVA_VERSION="1.8.0_392"\nOS_ARCH="x86_64"\n')
    own(home / "bin")


@pytest.mark.cluster  # whose images have one
async def test_a_real_java_8_is_debugged_by_the_old_spelling(
    tmp_path: Path, machine: Machine, orders: HostedOrders, kubectl: Kubectl
) -> None:
    root = machine.folder / "java8"
    await asyncio.to_thread(copied, kubectl, root)
    classes = orders.folder.parents[1] / "classes"
    shutil.copytree(classes, root / classes.relative_to("/"))
    start = machine.folder / "java8.sh"
    start.write_text(WITH_ITS_OWN_ROOT.format(root=root, java=JAVA_8))
    starts(orders, f"sh {start}")
    await debugged_and_reverted(tmp_path, machine, orders)


def copied(kubectl: Kubectl, folder: Path) -> None:
    """The JVM of the image, without its sample app."""
    folder.mkdir()
    kubectl.run("java8", image="java8")
    argv = ["kubectl", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace, "exec", "java8", "--"]
    with subprocess.Popen([*argv, "tar", "-C", "/", "-c", *FILES], stdout=subprocess.PIPE) as reading:
        subprocess.run(["tar", "-C", str(folder), "-x"], stdin=reading.stdout, check=True)
    for name in ("proc", "tmp"):
        (folder / name).mkdir()
    (folder / "tmp").chmod(0o777)
