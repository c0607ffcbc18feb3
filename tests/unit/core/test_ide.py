"""What an IDE reads out of its file is what was put in, whatever the name."""

import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.core.ide import FORMATS, eclipse, filename, intellij, jdb, vscode

PORTS = st.integers(1, 65535)
# What XML can say; IDEs give line ends in attributes back as they are only when they are escaped.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"], include_characters="\t\n\r"), min_size=1)


@given(host=NAMES, port=PORTS, name=NAMES)
def test_intellij_finds_host_port_and_name(host: str, port: int, name: str) -> None:
    configuration = _xml(intellij(host, port, name)).find("configuration")
    assert configuration is not None
    options = {option.get("name"): option.get("value") for option in configuration.iter("option")}
    assert configuration.attrib == {"default": "false", "name": name, "type": "Remote"}
    assert (options["HOST"], options["PORT"], options["DEBUG_PORT"]) == (host, str(port), str(port))
    assert options["SHMEM_ADDRESS"] is None


@given(host=NAMES, port=PORTS, name=NAMES)
def test_eclipse_finds_host_and_port_and_may_not_end_the_jvm(host: str, port: int, name: str) -> None:
    launch = _xml(eclipse(host, port, name))
    entries = {entry.get("key"): entry.get("value") for entry in launch.iter("mapEntry")}
    assert entries == {"hostname": host, "port": str(port)}
    [terminate] = launch.iter("booleanAttribute")
    assert terminate.get("key", "").endswith("ALLOW_TERMINATE")
    assert terminate.get("value") == "false"


@given(host=NAMES, port=PORTS, name=NAMES)
def test_vscode_finds_host_and_port(host: str, port: int, name: str) -> None:
    configuration = json.loads(vscode(host, port, name))
    assert (configuration["hostName"], configuration["port"], configuration["name"]) == (host, port, name)
    assert (configuration["type"], configuration["request"]) == ("java", "attach")


def test_jdb_is_told_an_ipv6_address_in_brackets() -> None:
    assert jdb("127.0.0.1", 20000, "shop") == "jdb -attach 127.0.0.1:20000\n"
    assert jdb("::1", 20000, "shop") == "jdb -attach [::1]:20000\n"


@pytest.mark.parametrize("write", [intellij, eclipse])
def test_what_xml_cannot_say_does_not_spoil_the_file(write: Callable[[str, int, str], str]) -> None:
    _xml(write("host", 1, "a\0b\x1f\ud800"))


@given(kind=st.sampled_from(list(FORMATS)), name=st.text())
def test_a_files_name_is_one_on_every_system(kind: str, name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", filename(kind, name))
    assert filename(kind, name).endswith(FORMATS[kind].suffix)


def test_a_files_name_is_the_sessions() -> None:
    assert filename("intellij", "shop (team-a)") == "shop-team-a.run.xml"


def _xml(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode())
