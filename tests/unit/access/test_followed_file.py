"""Secrets and keys in files that somebody replaces while the gateway runs."""

import os
from functools import partial
from pathlib import Path

import pytest

from noah.access.followed_file import FollowedFile, secret_of
from noah.errors import BadSettings

FIRST, SECOND = b"a" * 16, b"b" * 16


def followed(file: Path) -> FollowedFile[bytes]:
    return FollowedFile(file, "secret_file of X", partial(secret_of, shortest=16))


def test_a_secret_that_is_replaced_counts_at_once(tmp_path: Path) -> None:
    """As it is mounted from a Secret: X -> ..data/X, ..data -> ..2026_11."""
    for name, content in (("..1", FIRST), ("..2", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_bytes(content + b"\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "secret").symlink_to("..data/secret")
    secret = followed(tmp_path / "secret")
    assert secret.current() == FIRST
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert secret.current() == SECOND


@pytest.mark.parametrize("becomes", [b"", b"short", b"c" * (2 << 20), None, "fifo"])
def test_one_that_cannot_be_used_changes_nothing_and_is_named(
    tmp_path: Path, becomes: bytes | str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(FIRST)
    secret = followed(file)
    file.unlink()
    if becomes == "fifo":
        os.mkfifo(file)
    elif isinstance(becomes, bytes):
        file.write_bytes(becomes)
    for _ in range(2):
        assert secret.current() == FIRST
    assert caplog.text.count("secret_file of X ") == 1
    with pytest.raises(BadSettings, match="secret_file of X "):
        followed(file)
    file.unlink(missing_ok=True)
    file.write_bytes(SECOND)
    assert secret.current() == SECOND
