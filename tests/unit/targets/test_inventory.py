"""Hosts from the configuration, and from a command that prints them."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.session import Presence, Session
from noah.core.session.target import HostTarget
from noah.errors import BadSettings, Unavailable
from noah.settings import Host, Settings, parse_settings
from noah.targets.host.hosts import Hosts
from noah.targets.host.inventory import open_host_sources
from tests.unit.targets.host_apis import listening

ORDERS: dict[str, Any] = {"name": "orders", "unit": "orders.service", "options_file": "/etc/default/orders"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7A5Kz2zM4E4S4WcS6S7JcV0qkzYyA3bWcmqSxwF3pQ"


def host(name: str, **changes: Any) -> dict[str, Any]:
    known = {"name": name, "address": "10.0.0.1", "user": "deploy", "key": "/k", "host_key": KEY, "apps": [ORDERS]}
    return {**known, **changes}


def settings(*hosts: dict[str, Any], **more: Any) -> Settings:
    return parse_settings({"hosts": list(hosts), **more}, origin="FILE")


def printing(text: str, code: int = 0) -> list[str]:
    return [sys.executable, "-c", f"import sys; print({text!r}); print('no CMDB', file=sys.stderr); sys.exit({code})"]


async def read(wanted: Settings) -> tuple[Sequence[Host], Sequence[str]]:
    async with open_host_sources(wanted, first_take_s=60) as (_, sources):
        return sources.of(wanted)


async def test_the_commands_hosts_stand_beside_the_configured_ones() -> None:
    command = printing(json.dumps([host("kvm-2")]))
    found, troubles = await read(settings(host("kvm-1"), hosts_command=command))
    assert not troubles
    assert [one.name for one in found] == ["kvm-1", "kvm-2"]
    assert found[1].apps[0].restart_command == "systemctl restart orders.service"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (printing("[]", 3), "failed with exit code 3: no CMDB"),
        (printing("hosts:"), "has to print a JSON list"),
        (printing("{}"), "has to print a JSON list"),
        (printing(json.dumps([host("kvm-1", port="x")])), r"hosts\.0\.port"),
        (printing(json.dumps([host("kvm-1"), host("kvm-1")])), "'kvm-1' stands there twice"),
        (printing(json.dumps([host("kvm-1", host_key="SHA256:abc")])), r"kvm-1.*ssh_host_ed25519_key\.pub"),
        (printing(json.dumps([host("kvm-\x1b[2J")])), r"hosts\.0\.name"),
        (printing(json.dumps([host("kvm-1", **{"\x1b" * 5000: 1})])), r"unknown key.{1,800}$"),
        (printing("[" * 100_000), "has to print a JSON list"),
        (["sh", "-c", "yes"], "printed more than 16 MiB"),
        (["sh", "-c", "printf '\\033[2J%01000d' 0 >&2; exit 1"], "exit code 1: \ufffd.{1,300}$"),
        (["/nowhere/hosts"], "cannot be run"),
    ],
)
async def test_a_command_that_does_not_tell_hosts_is_named(command: list[str], sentence: str) -> None:
    wanted = settings(host("kvm-1"), hosts_command=command)
    async with open_host_sources(wanted, first_take_s=60) as (_, sources):
        found, [said] = sources.of(wanted)
        sources.in_force()
        assert re.search(sentence, said)
        assert "hosts_command" in said
        assert [one.name for one in found] == ["kvm-1"]
        assert not sources.is_complete


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        ({"start": "start.sh"}, "start and stop go together"),
        ({"unit": "a", "restart": "b"}, "only one of unit, restart and start with stop"),
        ({"options_file": "etc/orders"}, "options_file is a whole path"),
        ({"options_variable": "JAVA OPTS"}, "not the name of a variable"),
    ],
)
def test_an_app_that_cannot_be_restarted_is_refused(app: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadSettings, match=sentence):
        settings(host("kvm-1", apps=[{"name": "orders", **app}]))


async def test_a_host_key_that_is_none_is_refused_with_where_it_stands() -> None:
    hosts = Hosts(
        None,  # type: ignore[arg-type]
        catalog=Catalog(),
        holders=Holders(),
        lease=None,  # type: ignore[arg-type]
        claims=None,  # type: ignore[arg-type]
    )
    with pytest.raises(BadSettings, match=r"kvm-1.*ssh_host_ed25519_key\.pub"):
        await hosts.configure(settings(host("kvm-1", host_key="SHA256:abc")).hosts)
    assert not hosts.names()


def test_a_stop_that_fails_does_not_keep_the_start_from_running() -> None:
    [one] = settings(host("kvm-1", apps=[{"name": "orders", "stop": "a", "start": "b"}])).hosts
    assert one.apps[0].restart_command == "a\nb"


async def test_a_source_that_lacks_more_than_half_of_its_hosts_keeps_them_until_that_is_confirmed(
    tmp_path: Path,
) -> None:
    """However few it has: an environment is three hosts."""
    few, many = tmp_path / "few.json", tmp_path / "many.json"
    few.write_text(json.dumps([host(name) for name in "abc"]))
    wanted = settings(*(host(f"other-{n}") for n in range(20)), hosts_command=["cat", str(few)])
    async with open_host_sources(wanted, first_take_s=60) as (_, sources):
        assert len(sources.of(wanted)[0]) == 23
        few.write_text("[]")
        sources.changed.clear()
        sources.read_now()
        await sources.changed.wait()
        found, [said] = sources.of(wanted)
        assert (len(found), sources.doubted) == (23, frozenset("abc"))
        assert "3 of 3 hosts of hosts_command (cat) are gone at once" in said
        sources.accept(frozenset("ab"))
        assert len(sources.of(wanted)[0]) == 23
        # A source that is configured otherwise, and cannot be read then, keeps what it had.
        wanted = wanted.model_copy(update={"hosts_command": ("cat", str(many))})
        sources.changed.clear()
        sources.of(wanted)
        await sources.changed.wait()
        sources.accept(frozenset("abc"))
        assert len(sources.of(wanted)[0]) == 20


async def test_a_source_that_hangs_holds_up_neither_the_start_nor_the_others(tmp_path: Path) -> None:
    hosts = json.dumps([host("kvm-2")])
    async with listening(lambda reader, writer: reader.read()) as url:
        wanted = settings(host("kvm-1"), hosts_command=printing(hosts), inventory=[{"url": url}])
        async with open_host_sources(wanted, first_take_s=0.1) as (_, sources), asyncio.timeout(60):
            while len(sources.of(wanted)[0]) < 2:
                await sources.changed.wait()
                sources.changed.clear()
            sources.in_force()
            assert not sources.is_complete


def test_a_thousand_hosts_that_are_wrong_are_one_sentence() -> None:
    with pytest.raises(BadSettings, match=r"^FILE: hosts\.0\.port") as raised:
        settings(*(host(f"kvm-{n}", port="x") for n in range(1000)))
    assert len(raised.value.sentence) < 300


def test_fifty_thousand_names_are_compared_in_a_moment() -> None:
    began = time.perf_counter()
    settings(host("kvm", apps=[{"name": f"app-{n}"} for n in range(50_000)]))
    assert time.perf_counter() - began < 10  # each with each other took minutes


async def test_a_host_that_nobody_has_named_yet_may_still_come() -> None:
    """A CMDB that is away when the gateway starts ends no session."""
    is_complete = False
    hosts = Hosts(
        None,  # type: ignore[arg-type]
        catalog=Catalog(),
        holders=Holders(),
        lease=None,  # type: ignore[arg-type]
        claims=None,  # type: ignore[arg-type]
        is_complete=lambda: is_complete,
    )
    now = datetime.now(UTC)
    session = Session(
        id="s-1",
        target=HostTarget("kvm-1", "orders"),
        workload=None,
        app="orders",
        environment="hosts",
        owner=Principal(kind=PrincipalKind.TOKEN, issuer="", subject="ada", name="ada"),
        port=20000,
        created_at=now,
        expires_at=now,
        allow=(),
    )
    link = hosts.link(session, changed=lambda: None, step=lambda _: None)
    with pytest.raises(Unavailable, match="not known before all of the inventory was read"):
        await link.look(session)
    assert session.target in await hosts.configure(settings(host("kvm-1")).hosts)
    await hosts.configure(())
    is_complete = True
    assert (await link.look(session)).presence is Presence.REMOVED
    await hosts.close()
