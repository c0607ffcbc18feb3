"""Where the command line keeps its logins, and where it sends them."""

import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail

from noah.client.credentials import Credentials
from noah.client.environment import client_from_environment
from noah.errors import BadSettings

URL, OTHER = "https://noah.example.com", "https://other.example.com"


class InMemory(KeyringBackend):
    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Locked(InMemory):
    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError("nobody is there to unlock it")


@pytest.fixture(autouse=True)
def no_keyring_of_this_machine() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials({"XDG_CONFIG_HOME": str(tmp_path)})


def test_without_a_keyring_a_token_is_in_a_file_of_the_users_alone(credentials: Credentials) -> None:
    assert credentials.keep(URL, "secret") == str(credentials.file)
    assert stat.S_IMODE(credentials.file.stat().st_mode) == 0o600
    assert credentials.token(URL) == "secret"
    assert credentials.token(OTHER) is None
    credentials.keep(OTHER, "another")
    credentials.forget(URL)
    assert (credentials.token(URL), credentials.token(OTHER)) == (None, "another")


def test_a_keyring_has_the_token_and_the_file_does_not(credentials: Credentials) -> None:
    keyring.set_keyring(InMemory())
    assert credentials.keep(URL, "secret") == "the system's keyring"
    assert "secret" not in credentials.file.read_text()
    assert credentials.token(URL) == "secret"
    credentials.forget(URL)
    assert credentials.token(URL) is None
    assert keyring.get_password("noah", URL) is None


def test_a_keyring_that_is_locked_leaves_the_file(credentials: Credentials) -> None:
    keyring.set_keyring(Locked())
    credentials.keep(URL, "secret")
    assert credentials.token(URL) == "secret"


def test_a_user_without_a_home_has_no_logins() -> None:
    assert Credentials({"HOME": "/nowhere"}).token(URL) is None
    assert Credentials({}).file.name == "credentials.json"


def test_a_file_that_others_may_read_is_not_used(credentials: Credentials) -> None:
    credentials.keep(URL, "secret")
    credentials.file.chmod(0o644)
    with pytest.raises(BadSettings, match="chmod 600"):
        credentials.token(URL)
    credentials.file.chmod(0o600)
    credentials.file.write_text("[]")
    with pytest.raises(BadSettings, match="not a file of tokens"):
        credentials.token(URL)


@pytest.mark.parametrize("url", ["http://noah.example.com", "http://10.0.0.5:7070", "http://127.0.0.1.example.com"])
def test_a_token_does_not_go_over_plain_http_to_another_machine(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadSettings, match="https"):
        client_from_environment({"NOAH_URL": url, "NOAH_TOKEN": "noah_x", "XDG_CONFIG_HOME": str(tmp_path)})
    client_from_environment({"NOAH_URL": url, "XDG_CONFIG_HOME": str(tmp_path)})  # without one there is nothing to read


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:7070", "http://[::1]:7070", "http://localhost", "http://noah.localhost", URL]
)
def test_a_token_goes_to_this_machine_and_over_tls(tmp_path: Path, url: str) -> None:
    client_from_environment({"NOAH_URL": url, "NOAH_TOKEN": "noah_x", "XDG_CONFIG_HOME": str(tmp_path)})


def test_where_files_have_no_mode_the_profile_keeps_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.getuid")
    credentials = Credentials({"APPDATA": str(tmp_path)})
    credentials.keep(URL, "secret")
    credentials.file.chmod(0o666)  # what Windows says of every file
    assert credentials.file == tmp_path / "noah" / "credentials.json"
    assert credentials.token(URL) == "secret"
