"""How the gateway follows its configuration, whatever is slow, broken or half written."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from noah.errors import BadSettings
from noah.inventory import Inventory, Named, Part, following
from noah.settings import Settings, read_settings

NOTHING = Settings()


class Kept:
    """A part whose names are those of the JVMs of this machine in the configuration."""

    def __init__(self, what: str = "JVMs") -> None:
        self.had: list[list[str]] = []  # each time that they were applied
        self.hangs = False
        self.fails: Exception | None = None
        self.part = Part(what, "JVM", (), self._read, self._apply)

    async def _read(self, settings: Settings) -> tuple[Sequence[Named], Sequence[str]]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        return settings.local, ()

    async def _apply(self, found: Any) -> None:
        self.had.append([one.name for one in found])


def text(*names: str) -> str:
    return "[gateway]\n" + "".join(f'[[local]]\nname = "{name}"\njdwp_port = 5005\n' for name in names)


def replace(file: Path, content: str) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(content)
    beside.replace(file)


@asynccontextmanager
async def followed(
    file: Path, *kept: Kept, began: Settings = NOTHING, confirmed: Collection[str] = ()
) -> AsyncIterator[tuple[Inventory, list[Settings]]]:
    permitted: list[Settings] = []

    async def permit(settings: Settings) -> None:
        permitted.append(settings)

    async def confirmations() -> Collection[str]:
        return confirmed

    inventory = Inventory(file, began, [one.part for one in kept], permit=permit, confirmations=confirmations)
    async with following(inventory):
        yield inventory, permitted


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.05)


async def test_what_changed_while_the_gateway_started_is_seen(tmp_path: Path) -> None:
    file, kept = tmp_path / "noah.toml", Kept()
    file.write_text(text("early"))
    began = read_settings(file)
    replace(file, text("early", "late"))
    async with followed(file, kept, began=began):
        await until(lambda: kept.had[-1:] == [["early", "late"]])


async def test_a_part_that_hangs_holds_up_neither_another_one_nor_a_right_that_is_taken_away(tmp_path: Path) -> None:
    file, hanging, kept = tmp_path / "noah.toml", Kept("hosts"), Kept()
    file.write_text(text())
    hanging.hangs = True
    async with followed(file, hanging, kept) as (_, permitted):
        for name in ("one", "two"):
            grant = f'[[grants]]\nusers = ["{name}"]\nrights = ["see"]\n'
            replace(file, text(name) + grant)
            await until(lambda name=name: kept.had[-1:] == [[name]])  # type: ignore[misc]
            assert permitted[-1].grants[0].users == (name,)


async def test_a_file_that_is_written_slowly_is_read_when_it_is_complete(tmp_path: Path) -> None:
    file, kept = tmp_path / "noah.toml", Kept()
    names = ["a", "b", "c"]
    file.write_text(text(*names))
    async with followed(file, kept) as (inventory, _):
        await until(lambda: kept.had)
        content = text(*names, "d")
        with file.open("w") as written:
            for begins in range(0, len(content), 60):
                written.write(content[begins : begins + 60])
                written.flush()
                await asyncio.sleep(1.2)  # at least one look falls into each pause
        await until(lambda: kept.had[-1] == [*names, "d"])
        assert (len(kept.had), inventory.trouble) == (2, None)


@pytest.mark.parametrize("becomes", ["fifo", "folder", "loop", "gone", "deep", "huge", "binary"])
def test_a_file_that_cannot_be_a_configuration_is_named_at_once(tmp_path: Path, becomes: str) -> None:
    file = tmp_path / "noah.toml"
    match becomes:
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "loop":
            file.symlink_to(file)
        case "deep":
            file.write_text("a = " + "[" * 100_000)
        case "huge":
            file.write_text("#" * (17 << 20))
        case "binary":
            file.write_bytes(b"\xff\x1b")
    with pytest.raises(BadSettings, match=f"The configuration {re.escape(str(file))} ") as raised:
        read_settings(file)
    assert raised.value.sentence.isprintable()


async def test_a_file_that_becomes_something_else_changes_nothing(tmp_path: Path) -> None:
    file, kept = tmp_path / "noah.toml", Kept()
    file.write_text(text("a"))
    async with followed(file, kept) as (inventory, _):
        await until(lambda: kept.had)
        file.unlink()
        os.mkfifo(file)
        await until(lambda: "It is not a regular file" in (inventory.trouble or ""))
        replace(file, "\n")
        await until(lambda: "is empty" in (inventory.trouble or ""))
        assert kept.had == [["a"]]
        replace(file, text("a", "b"))
        await until(lambda: inventory.trouble is None)
        assert kept.had[-1] == ["a", "b"]


async def test_a_configuration_behind_links_is_followed_when_one_of_them_is_swapped(tmp_path: Path) -> None:
    """As Kubernetes mounts ConfigMaps: noah.toml -> ..data/noah.toml, ..data -> ..2026_11."""
    for name, content in (("..1", text("a")), ("..2", text("a", "b"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "noah.toml").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    file, kept = tmp_path / "noah.toml", Kept()
    file.symlink_to("..data/noah.toml")
    async with followed(file, kept):
        await until(lambda: kept.had)
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await until(lambda: kept.had[-1] == ["a", "b"])


async def test_what_fails_for_a_reason_that_nobody_foresaw_is_not_current(tmp_path: Path) -> None:
    file, kept = tmp_path / "noah.toml", Kept()
    file.write_text(text("a"))
    kept.fails = ZeroDivisionError()
    async with followed(file, kept) as (inventory, _):
        await until(lambda: inventory.trouble)
        assert inventory.trouble == "The gateway keeps its JVMs, for a reason that only its log has."
        kept.fails = None
        await until(lambda: kept.had and inventory.trouble is None)


async def test_sighup_confirms_what_was_refused_and_nothing_that_nobody_was_shown(tmp_path: Path) -> None:
    file, kept = tmp_path / "noah.toml", Kept()
    file.write_text(text(*"abcdefgh"))
    async with followed(file, kept) as (inventory, _):
        await until(lambda: kept.had)
        replace(file, text("a"))
        inventory.read_now()
        inventory.read_now()
        await until(lambda: kept.part.refused)
        replace(file, text())
        inventory.read_now()  # confirms seven, and eight would be gone
        await until(lambda: len(kept.part.refused) == 8)
        assert len(kept.had) == 1
        inventory.read_now()
        await until(lambda: kept.had[-1] == [])
        assert inventory.trouble is None


async def test_what_is_confirmed_at_one_gateway_is_confirmed_at_all_that_refuse_the_same(tmp_path: Path) -> None:
    file, other_file = tmp_path / "noah.toml", tmp_path / "other.toml"
    one, same, other = Kept(), Kept(), Kept()
    confirmed: set[str] = set()
    for each in (file, other_file):
        each.write_text(text(*"abcdefgh"))
    async with (
        followed(file, one) as (inventory, _),
        followed(file, same, confirmed=confirmed),
        followed(other_file, other, confirmed=confirmed),
    ):
        await until(lambda: one.had and same.had and other.had)
        replace(file, text("a"))
        replace(other_file, text("b"))
        await until(lambda: one.part.refused and same.part.refused and other.part.refused)
        confirmed.add(one.part.fingerprint)
        await inventory.confirm()
        assert one.had[-1] == ["a"]
        await until(lambda: same.had[-1] == ["a"])
        assert (len(other.had), len(other.part.refused)) == (1, 7)


async def test_a_hundred_changes_in_a_moment_end_with_the_last_one(tmp_path: Path) -> None:
    file, kept = tmp_path / "noah.toml", Kept()
    file.write_text(text("first"))
    async with followed(file, kept) as (inventory, _):
        for number in range(100):
            replace(file, text("first", f"c{number}"))
            inventory.read_now()
            await asyncio.sleep(0.005)
        await until(lambda: kept.had[-1:] == [["first", "c99"]])
        assert inventory.trouble is None
