"""Hosts from the configuration, and from a command that prints them."""

import json
import re
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.session import Presence, Session
from noah.core.session.target import HostTarget
from noah.errors import BadSettings, Unavailable
from noah.settings import Settings, parse_settings
from noah.targets.host.hosts import Hosts
from noah.targets.host.inventory import HostSources

ORDERS: dict[str, Any] = {"name": "orders", "unit": "orders.service", "options_file": "/etc/default/orders"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7A5Kz2zM4E4S4WcS6S7JcV0qkzYyA3bWcmqSxwF3pQ"


def host(name: str, **changes: Any) -> dict[str, Any]:
    known = {"name": name, "address": "10.0.0.1", "user": "deploy", "key": "/k", "host_key": KEY, "apps": [ORDERS]}
    return {**known, **changes}


def settings(*hosts: dict[str, Any], **more: Any) -> Settings:
    return parse_settings({"hosts": list(hosts), **more}, origin="FILE")


def printing(text: str, code: int = 0) -> list[str]:
    return [sys.executable, "-c", f"import sys; print({text!r}); print('no CMDB', file=sys.stderr); sys.exit({code})"]


async def test_the_commands_hosts_stand_beside_the_configured_ones() -> None:
    command = printing(json.dumps([host("kvm-2")]))
    found, troubles = await HostSources().read(settings(host("kvm-1"), hosts_command=command))
    assert not troubles
    assert [one.name for one in found] == ["kvm-1", "kvm-2"]
    assert found[1].apps[0].restart_command == "systemctl restart orders.service"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (printing("[]", 3), "failed with exit code 3: no CMDB"),
        (printing("hosts:"), "does not print JSON"),
        (printing("{}"), "has to print a JSON list"),
        (printing(json.dumps([host("kvm-1", port="x")])), r"hosts\.0\.port"),
        (printing(json.dumps([host("kvm-1"), host("kvm-1")])), "'kvm-1' stands there twice"),
        (["/nowhere/hosts"], "cannot be run"),
    ],
)
async def test_a_command_that_does_not_tell_hosts_is_named(command: list[str], sentence: str) -> None:
    sources = HostSources()
    found, [said] = await sources.read(settings(host("kvm-1"), hosts_command=command))
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
