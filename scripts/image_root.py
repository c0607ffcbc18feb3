#!/usr/bin/env python3
"""Make the root file system of the gateway's image: image_root.py BASE SITE_PACKAGES OUT.

BASE is the root of a Debian with Python, of any architecture; nothing of it is run. Its Python must be of the version,
and at the place, of the one that runs this. OUT gets that Python, the libraries that it and SITE_PACKAGES are linked
with, and the authorities of TLS: no shell, no package manager. What a gateway does not need is removed from
SITE_PACKAGES. The packages of Debian's that files came from are listed in OUT, where scanners look.
"""

import compileall
import os
import py_compile
import shutil
import struct
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path

# What a gateway does not need of Python's library, by name; its own site-packages are pip's.
LEFT_OUT = (
    *("__pycache__", "config-*", "ensurepip", "site-packages"),
    *("_pyrepl", "idlelib", "pydoc*", "test", "_test*.so", "tkinter", "turtle*", "doctest.py"),
    *("curses", "_curses*.so", "dbm", "_dbm.*.so", "readline.*.so", "xxlimited*.so"),
)
# And of the packages.
UNUSED = (
    *("**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.c", "**/*.cpp", "**/*.h", "**/*.hpp"),
    *("alembic/testing", "greenlet/tests", "pydantic/v1", "sqlalchemy/testing"),
    *("sqlalchemy/dialects/mssql", "sqlalchemy/dialects/mysql", "sqlalchemy/dialects/oracle"),
)
FILES = ("etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/os-release", "etc/ssl/certs/ca-certificates.crt")
FOLDERS = ("usr/local/lib", "usr/lib/{}-linux-gnu", "lib/{}-linux-gnu")  # where Debian's loader looks
MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine of ELF
USER = 10001
LOAD, DYNAMIC, INTERPRETER = 1, 2, 3  # types of segments
NEEDED, STRINGS = 1, 5  # tags of the dynamic section


def main(base: Path, packages: Path, out: Path) -> None:
    for link in ("bin", "sbin", "lib", "lib64"):
        if (base / link).is_symlink():
            (out / link).symlink_to((base / link).readlink())
            (out / link).resolve().mkdir(parents=True)
    for folder in ("tmp", "proc", "sys", "dev"):
        (out / folder).mkdir()
    (out / "tmp").chmod(0o1777)
    library = sysconfig.get_path("stdlib").lstrip("/")
    program = os.path.realpath(sys.executable).lstrip("/")
    shutil.copytree(base / library, out / library, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    copied = {*FILES, program, *libraries(base / program, base)}
    for extension in (out / library).rglob("*.so"):
        try:
            copied |= libraries(extension, base)
        except FileNotFoundError:
            extension.unlink()  # the base has not the package that it needs
    # Only compiled, so that the image is small: a traceback has the lines of Noah and of what it imports, not of these.
    compileall.compile_dir(
        out / library,
        quiet=1,
        legacy=True,
        stripdir=str(out),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    for source in (out / library).rglob("*.py"):
        source.unlink()
    for unused in [path for pattern in UNUSED for path in packages.glob(pattern)]:
        shutil.rmtree(unused) if unused.is_dir() else unused.unlink()
    own = {file.name for file in packages.rglob("*.so*")}
    for extension in packages.rglob("*.so*"):
        copied |= libraries(extension, base, own)
    for name in copied:
        if (base / name).exists() and not (out / name).exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(base / name, out / name)
    (out / program).with_name("python3").symlink_to(Path(program).name)
    with (out / "etc/passwd").open("a") as users, (out / "etc/group").open("a") as groups:
        users.write(f"noah:x:{USER}:{USER}::/var/lib/noah:/nonexistent\n")
        groups.write(f"noah:x:{USER}:\n")
    _list_packages(base, {*copied, f"{library}/os.py"}, out)


def libraries(program: Path, base: Path, own: Collection[str] = ()) -> set[str]:
    """Return the libraries of *base* that *program* is linked with, in the end, by the names that the loader asks for.

    Raises FileNotFoundError for one that is neither there nor among the program's *own*.
    """
    found: set[str] = set()
    waiting = [program]
    while waiting:
        machine, names = linked_with(waiting.pop().read_bytes())
        for name in names:
            places = [name.lstrip("/")] if "/" in name else [f"{one.format(machine)}/{name}" for one in FOLDERS]
            place = next((place for place in places if (base / place).exists()), None)
            if place is None:
                if name in own:
                    continue
                raise FileNotFoundError(f"{name}, which {program} is linked with, is not in {base}.")
            if place not in found:
                found.add(place)
                waiting.append(base / place)
    return found


def linked_with(elf: bytes) -> tuple[str, list[str]]:
    """Return the machine that the program (ELF, 64 bits) is for, its loader, and the libraries that it names itself."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ValueError("This is not a program of 64 bits, in little-endian order.")
    (machine,) = struct.unpack_from("<H", elf, 18)
    (at,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    segments = [struct.unpack_from("<IIQQQQ", elf, at + number * size) for number in range(count)]
    names, entries = [], []
    for type_, _, offset, _, _, length in segments:
        if type_ == INTERPRETER:
            names.append(elf[offset : offset + length - 1].decode())
        elif type_ == DYNAMIC:
            entries = [struct.unpack_from("<QQ", elf, offset + n * 16) for n in range(length // 16)]
    for address in (value for tag, value in entries if tag == STRINGS):
        (strings,) = (
            address - start + offset
            for type_, _, offset, start, _, length in segments
            if type_ == LOAD and start <= address < start + length
        )
        starts = [strings + value for tag, value in entries if tag == NEEDED]
        names += [elf[start : elf.index(b"\0", start)].decode() for start in starts]
    return MACHINES[machine], names


def _list_packages(base: Path, copied: Collection[str], out: Path) -> None:
    """Write dpkg's paragraphs on the packages that have one of the files."""
    wanted = {(base / name).resolve() for name in copied}
    owners = set()
    for listed in (base / "var/lib/dpkg/info").glob("*.list"):
        if any((base / line.lstrip("/")).resolve() in wanted for line in listed.read_text().splitlines()):
            owners.add(listed.stem.partition(":")[0])
    status = (base / "var/lib/dpkg/status").read_text().split("\n\n")
    kept = [one for one in status if one.partition("\n")[0].removeprefix("Package: ") in owners]
    (out / "var/lib/dpkg").mkdir(parents=True)
    (out / "var/lib/dpkg/status").write_text("\n\n".join(kept) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
