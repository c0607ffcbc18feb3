"""The file of the gateway's own tokens."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noah.access.tokens import TokenFile
from noah.core.session.principal import OPERATORS, PrincipalKind
from noah.errors import BadInput, NotFound, Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "folder" / "tokens.json")


def _create(file: TokenFile, name: str = "ada", *groups: str, expires_at: datetime | None = None) -> str:
    return file.create(name, groups=groups, now=NOW, expires_at=expires_at)


def test_a_token_says_whose_it_is_until_it_expires(file: TokenFile) -> None:
    token = _create(file, "ada", "team-a", OPERATORS, expires_at=NOW + timedelta(days=30))
    principal = file.find(token, NOW)
    assert principal is not None
    assert (principal.kind, principal.subject, principal.groups) == (
        PrincipalKind.TOKEN,
        "ada",
        frozenset({"team-a", OPERATORS}),
    )
    assert file.find(token, NOW + timedelta(days=30)) is None
    assert file.find(token + "x", NOW) is None
    assert file.find("", NOW) is None


def test_the_file_has_no_token_and_is_its_owners_alone(file: TokenFile) -> None:
    token = _create(file)
    assert token not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [one.name for one in file.all()] == ["ada"]


def test_what_another_process_changes_is_seen_at_once(file: TokenFile) -> None:
    other = TokenFile(file.path)
    assert file.all() == []
    token = _create(other)
    assert file.find(token, NOW) is not None
    other.revoke("ada")
    assert file.find(token, NOW) is None


def test_a_token_is_revoked_by_its_id_and_all_of_a_name_by_the_name(file: TokenFile) -> None:
    first, second, third = _create(file), _create(file), _create(file, "bob")
    file.revoke(file.all()[0].id)
    assert [file.find(token, NOW) is None for token in (first, second, third)] == [True, False, False]
    assert len(file.revoke("ada")) == 1
    assert file.find(third, NOW) is not None
    with pytest.raises(NotFound, match="no token 'ada'"):
        file.revoke("ada")


def test_twenty_at_once_lose_nothing(file: TokenFile) -> None:
    with ThreadPoolExecutor(20) as pool:
        tokens = list(pool.map(lambda n: _create(TokenFile(file.path), f"user-{n}"), range(20)))
    assert [getattr(file.find(token, NOW), "subject", None) for token in tokens] == [f"user-{n}" for n in range(20)]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("", ()), (" ", ()), ("a" * 256, ()), ("a\nb", ()), ("system:admin", ()), ("System:admin", ()), ("noah:x", ()),
        ("ada", ("system:masters",)), ("ada", ("",)), ("ada", ("noah:other",)), ("ada", ("a\x1b[2J",)),
    ],
)  # fmt: skip
def test_a_name_that_could_be_taken_for_another_is_refused(file: TokenFile, name: str, groups: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match="printable"):
        _create(file, name, *groups)
    assert not file.path.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tokens": [{}]}', '{"tokens": [{"id": 1, "name"', "\xff"])
def test_a_file_that_is_broken_lets_nobody_in_and_says_so(file: TokenFile, text: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(text, encoding="latin-1")
    with pytest.raises(Unavailable, match="is not one that `noah token` wrote"):
        file.find("x", NOW)


def test_a_file_that_others_may_write_is_not_believed(file: TokenFile) -> None:
    token = _create(file)
    file.path.chmod(0o622)
    with pytest.raises(Unavailable, match="chmod 600"):
        TokenFile(file.path).find(token, NOW)


def test_a_link_in_the_place_of_the_lock_is_not_followed(file: TokenFile, tmp_path: Path) -> None:
    file.path.parent.mkdir()
    os.symlink(tmp_path / "victim", f"{file.path}.lock")
    with pytest.raises(Unavailable):
        _create(file)
    assert not (tmp_path / "victim").exists()


def test_the_file_is_json_that_later_versions_can_tell_apart(file: TokenFile) -> None:
    _create(file)
    assert json.loads(file.path.read_text())["version"] == 1
