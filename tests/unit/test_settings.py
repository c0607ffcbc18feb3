import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from noah.errors import BadSettings
from noah.settings import Settings, parse_settings, read_settings, settings_file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "noah.toml"


def refused(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(BadSettings) as caught:
        read_settings(file)
    assert str(file) in caught.value.sentence
    return caught.value.sentence.replace(str(file), "FILE")


def read(file: Path, text: str) -> Settings:
    file.write_text(text)
    return read_settings(file)


def test_an_empty_file_gives_a_gateway_on_loopback(file: Path) -> None:
    settings = read(file, "")
    assert (settings.gateway.host, settings.gateway.port) == ("127.0.0.1", 7070)
    assert settings.gateway.ports == range(20000, 21000)
    assert settings.gateway.database == "sqlite:///noah.db"
    assert settings.sessions.default_length == timedelta(hours=2)
    assert settings.sessions.longest == timedelta(hours=12)
    assert (settings.clusters, settings.local) == ((), ())


def test_all_that_there_is_can_be_written(file: Path) -> None:
    settings = read(
        file,
        """
        [gateway]
        listen = "[::1]:7071"
        debug_ports = "30000-30000"
        [sessions]
        default_length = 600
        longest = "1h30m"
        pause_budget = "10m"
        [[clusters]]
        name = "dev"
        url = "https://rancher.test/k8s/clusters/c-1"
        token_file = "token"
        namespaces = ["team-a"]
        [[clusters]]
        name = "here"
        in_cluster = true
        reach = "api-server"
        [[local]]
        name = "shop"
        jdwp_port = 50005
        """,
    )
    assert (settings.gateway.host, settings.gateway.port) == ("::1", 7071)
    assert list(settings.gateway.ports) == [30000]
    assert settings.sessions.default_length == timedelta(minutes=10)
    assert settings.sessions.pause_budget == timedelta(minutes=10)
    assert [cluster.reach for cluster in settings.clusters] == ["pod", "api-server"]
    assert settings.local[0].jdwp_port == 50005


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x = 1", "'x'"),
        ("[gatway]", "'gatway'"),
        ("[gateway]\nlissten = 1", "'gateway.lissten'"),
        ("[[local]]\nname = 'a'\njdwp_port = 5\nport = 5", "'local.0.port'"),
        ("[[clusters]]\nname = 'a'\nin_cluster = true\nContext = 'x'", "'clusters.0.Context'"),
    ],
)
def test_a_key_that_nobody_knows_is_named(file: Path, text: str, named: str) -> None:
    assert refused(file, text) == f"FILE: unknown key {named}"


def test_every_key_of_the_example_is_known() -> None:
    lines = Path("config/noah.toml").read_text().splitlines()
    uncommented = "\n".join(re.sub(r"^#  ?(?=\w+ = |\[|  \")", "", line) for line in lines)
    settings = parse_settings(tomllib.loads(uncommented), origin="config/noah.toml")
    assert settings.access.oidc
    assert settings.access.portals
    assert settings.access.proxy


def test_what_compose_runs_is_understood() -> None:
    assert read_settings(Path("config/compose.toml")).access.tokens.is_relative_to("/var/lib/noah")


def test_all_mistakes_are_said_at_once(file: Path) -> None:
    sentence = refused(file, "[gateway]\nlissten = 1\ndatabase = 5\n[sessions]\nlongest = 'x'")
    assert "gateway.lissten" in sentence
    assert "gateway.database: " in sentence
    assert "sessions.longest: 'x' is not a length of time" in sentence


@pytest.mark.parametrize("listen", ["0.0.0.0:7070", "[::]:7070", "10.1.2.3:7070", "noah.test:7070"])
def test_beyond_loopback_logins_do_not_go_over_plain_http(file: Path, listen: str) -> None:
    assert "set tls_certificate and tls_key" in refused(file, f"[gateway]\nlisten = '{listen}'")
    for way in ("tls_certificate = 'c'\ntls_key = 'k'", "trusted_proxies = ['10.0.0.1']", "plain_http_from = ['::1']"):
        assert read(file, f"[gateway]\nlisten = '{listen}'\n{way}").gateway.listen == listen
    assert "go together" in refused(file, "[gateway]\ntls_key = 'k'")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:65535", "localhost:7070", "[::1]:7070"])
def test_loopback_needs_no_permission(file: Path, listen: str) -> None:
    assert read(file, f"[gateway]\nlisten = '{listen}'").gateway.listen == listen


@pytest.mark.parametrize("listen", ["", "7070", ":7070", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_an_address_that_is_none_is_refused(file: Path, listen: str) -> None:
    assert "gateway.listen: write HOST:PORT" in refused(file, f"[gateway]\nlisten = '{listen}'")


@pytest.mark.parametrize("ports", ["", "20000", "20000-", "-20000", "20001-20000", "80-90", "65000-65536", "a-b"])
def test_a_range_of_ports_that_is_none_is_refused(file: Path, ports: str) -> None:
    assert "gateway.debug_ports: write FIRST-LAST" in refused(file, f"[gateway]\ndebug_ports = '{ports}'")


def test_a_gateway_without_plain_ports_is_not_limited_by_their_number(file: Path) -> None:
    ports = "[gateway]\ndebug_ports = '20000-20049'\n"
    assert read(file, ports).gateway.ports == range(20000, 20050)
    assert len(read(file, f"{ports}plain_ports = false").gateway.ports) > 40_000


@pytest.mark.parametrize("length", ["0", "-5", "0.5", "-0.5", "inf", "nan", "true", "'0s'", "'-2h'", "'P1D'", "[1]"])
def test_a_length_that_is_none_is_refused(file: Path, length: str) -> None:
    assert "sessions.default_length: " in refused(file, f"[sessions]\ndefault_length = {length}")


def test_the_default_length_may_not_be_longer_than_the_longest(file: Path) -> None:
    assert "default_length (2h) is longer than longest (1h)" in refused(file, "[sessions]\nlongest = '1h'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs exactly one of kubeconfig, in_cluster and url"),
        ("in_cluster = true\nkubeconfig = 'x'", "needs exactly one of"),
        ("in_cluster = true\ncontext = 'x'", "context goes with kubeconfig"),
        ("kubeconfig = 'x'\ntoken_file = 'x'", "token_file and ca_file go with url"),
        ("url = 'dev.test'", "url begins with https://"),
        ("in_cluster = true\nreach = 'magic'", "clusters.0.reach: "),
        ("in_cluster = true\njdwp_port = 0", "clusters.0.jdwp_port: "),
    ],
)
def test_a_cluster_has_one_way_in(file: Path, text: str, said: str) -> None:
    assert said in refused(file, f"[[clusters]]\nname = 'dev'\n{text}")


@pytest.mark.parametrize("name", ["", "Dev", "a/b", "a b", "-a", "a" * 64, "ä"])
def test_a_name_is_one_that_fits_into_a_targets(file: Path, name: str) -> None:
    assert "lower-case letters" in refused(file, f"[[local]]\nname = '{name}'\njdwp_port = 5005")


def test_a_name_stands_there_once(file: Path) -> None:
    one = "[[local]]\nname = 'shop'\njdwp_port = 5005\n"
    assert "local: the name 'shop' stands there twice" in refused(file, one + one)


def test_one_bracket_instead_of_two_is_explained(file: Path) -> None:
    assert "write [[clusters]] with two brackets" in refused(file, "[clusters]\nname = 'dev'")


def test_a_file_that_is_no_toml_is_refused_with_the_line(file: Path) -> None:
    sentence = refused(file, "[gateway]\nlisten = 1 2")
    assert "FILE is not TOML: " in sentence
    assert "line 2" in sentence


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"noah\.toml cannot be read: No such file"):
        read_settings(tmp_path / "noah.toml")
    with pytest.raises(BadSettings, match="cannot be read: Is a directory"):
        read_settings(tmp_path)
    (tmp_path / "latin").write_bytes(b"# \xe4")
    with pytest.raises(BadSettings, match="cannot be read: 'utf-8'"):
        read_settings(tmp_path / "latin")


def test_the_option_goes_before_the_environment_and_that_before_the_default() -> None:
    assert settings_file("a.toml", {"NOAH_CONFIG": "b.toml"}) == Path("a.toml")
    assert settings_file(None, {"NOAH_CONFIG": "b.toml"}) == Path("b.toml")
    assert settings_file(None, {}) == Path(f"config{os.sep}noah.toml")
