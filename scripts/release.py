#!/usr/bin/env python3
"""Build what a release publishes into dist/, or the folder named, twice; refuse it unless both are the same.

    scripts/release.py [--without-images] [FOLDER]

Nothing is published: what is printed at the end are the commands for that.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Where a release is published, unless the variable says another place.
HOMEPAGE = os.environ.get("NOAH_HOMEPAGE", "https://example.com/noah")
ARCHITECTURES = ("amd64", "arm64")
CONTROL = """\
Package: noah-cli
Version: {version}
Architecture: all
Depends: python3 (>= 3.11)
Section: devel
Priority: optional
Maintainer: Noah's maintainers <noah@example.com>
Homepage: {homepage}
Description: command line of the Noah debug gateway
 Remote Java debugging for test environments: a breakpoint in seconds, and nothing gets killed.
"""


def main(out: Path, *, with_images: bool) -> int:
    os.environ["SOURCE_DATE_EPOCH"] = _git("log", "-1", "--format=%ct")
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        tree, first, second = (Path(folder) / name for name in ("tree", "first", "second"))
        # Of a copy, so that nothing changes between the two.
        for name in _git("ls-files", "--cached", "--others", "--exclude-standard").splitlines():
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        programs = _gateways_packages(tree, Path(folder) / "installed")
        for each in (first, second):
            build(tree, each)
            _list_parts(tree, programs, each)
            if with_images:
                _build_images(tree, each)
        differing = [name for name, sum_ in sums(first).items() if sums(second).get(name) != sum_]
        if differing or sums(first).keys() != sums(second).keys():
            print(f"Two builds differ: {', '.join(differing)}.", file=sys.stderr)
            return 1
        shutil.copytree(first, out)
    packages = [str(path) for path in sorted(out.glob("noah_gateway-*"))]
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *packages], check=True)
    lines = [f"{sum_}  {name}" for name, sum_ in sums(out).items()]
    (out / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines))
    print(f"Two builds were the same. In {out}, with SHA256SUMS:", *lines, sep="\n")
    print("To publish:", *_commands(out), sep="\n  ")
    if _git("status", "--porcelain"):
        print("These are builds of a tree with changes that are not committed: not to be published.")
    if HOMEPAGE.startswith("https://example.com"):
        print("The krew manifest and the Debian package name example.com: set NOAH_HOMEPAGE, and build again.")
    return 0


def _commands(out: Path) -> list[str]:
    (wheel,) = out.glob("*.whl")
    version = wheel.name.split("-")[1]
    images = sorted(out.glob("noah-gateway-*.tar"))
    tagged = f"REGISTRY/noah-gateway:{version}"
    copied = [
        f"skopeo copy docker-archive:{one.name} docker://{tagged}-{one.stem.rpartition('-')[2]}" for one in images
    ]
    both = " ".join(f"docker://{tagged}-{one.stem.rpartition('-')[2]}" for one in images)
    joined = [
        f"buildah manifest create {tagged} {both} && buildah manifest push --all {tagged} docker://{tagged}",
    ]
    return [
        f"git tag v{version} && git push origin v{version}",
        f"twine upload {wheel.name} noah_gateway-{version}.tar.gz",
        *(copied + joined if images else []),
        f"helm push noah-{version}.tgz oci://REGISTRY/charts",
        f"upload noah.pyz, *.deb, *.tar.gz, *.cdx.json and SHA256SUMS to {HOMEPAGE}",
        "krew-noah.yaml becomes plugins/noah.yaml of krew's index",
    ]


def build(tree: Path, out: Path) -> None:
    """Build the sdist, the wheel from it, the zipapp from that, two packages of that; and the chart."""
    subprocess.run([sys.executable, "-m", "build", "-q", "--no-isolation", "--outdir", str(out), str(tree)], check=True)
    (wheel,) = out.glob("*.whl")
    version = wheel.name.split("-")[1]
    app = out / "noah.pyz"
    subprocess.run([sys.executable, str(tree / "scripts/zipapp.py"), str(wheel), str(app)], check=True)
    files = sorted(file for file in (tree / "deploy/chart").rglob("*") if file.is_file())
    chart = {f"noah/{file.relative_to(tree / 'deploy/chart')}": file for file in files}
    _pack(out / f"noah-{version}.tgz", chart)
    _package_for_debian(app, tree, version, out)
    archive_name = f"kubectl-noah-{version}.tar.gz"
    packed = _pack(out / archive_name, {"kubectl-noah": app, "LICENSE": tree / "LICENSE"})
    manifest = (tree / "deploy/krew/noah.yaml").read_text()
    for name, value in (
        ("VERSION", version),
        ("HOMEPAGE", HOMEPAGE),
        ("ARCHIVE", f"{HOMEPAGE}/{archive_name}"),
        ("SHA256", hashlib.sha256(packed).hexdigest()),
    ):
        manifest = manifest.replace(f"@{name}@", value)
    (out / "krew-noah.yaml").write_text(manifest)


def _build_images(tree: Path, out: Path) -> None:
    (wheel,) = out.glob("*.whl")
    version = wheel.name.split("-")[1]
    env = {**os.environ, "REVISION": _git("rev-parse", "HEAD")}
    for architecture in ARCHITECTURES:
        archive = out / f"noah-gateway-{version}-{architecture}.tar"
        argv = [str(tree / "scripts/image"), str(archive), f"noah-gateway:{version}", architecture]
        subprocess.run(argv, check=True, env=env)


def _package_for_debian(app: Path, tree: Path, version: str, out: Path) -> None:
    """Make a package of the command line as one file, which needs Debian's Python and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        files = {"usr/bin/noah": app.read_bytes(), "usr/share/doc/noah-cli/copyright": (tree / "LICENSE").read_bytes()}
        files["DEBIAN/control"] = CONTROL.format(version=version, homepage=HOMEPAGE).encode()
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
            (root / name).chmod(0o755 if name.startswith("usr/bin") else 0o644)
        for path in root.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        # It writes SOURCE_DATE_EPOCH where a file is younger, as all of these are.
        argv = [
            "dpkg-deb",
            "--root-owner-group",
            "-Zxz",
            "--build",
            str(root),
            str(out / f"noah-cli_{version}_all.deb"),
        ]
        subprocess.run(argv, check=True, capture_output=True)


def _gateways_packages(tree: Path, folder: Path) -> Path:
    """Install what a gateway needs, and return the Python of that: once, since it is others who build that."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["server"], *extras["fast"]]
    pip = [sys.executable, "-m", "pip", "--python", str(folder), "-q", "--disable-pip-version-check"]
    # Nothing of it runs, it is only listed.
    subprocess.run([*pip, "install", "--no-compile", *wanted], check=True)
    return folder / "bin/python"


def _list_parts(tree: Path, python: Path, out: Path) -> None:
    """Write the list of what a gateway is made of (CycloneDX), with the versions that pip has chosen here."""
    (wheel,) = out.glob("*.whl")
    version = wheel.name.split("-")[1]
    file = out / f"noah-gateway-{version}.cdx.json"
    argv = [sys.executable, "-m", "cyclonedx_py", "environment", str(python), "--output-reproducible"]
    subprocess.run([*argv, "--pyproject", str(tree / "pyproject.toml"), "-o", str(file)], check=True)
    listed = json.loads(file.read_text())
    listed["metadata"]["component"] |= {"version": version, "purl": f"pkg:pypi/noah-gateway@{version}"}
    file.write_text(json.dumps(listed, indent=2) + "\n")


def _pack(archive: Path, files: Mapping[str, Path]) -> bytes:
    """Write the files, by their names in the archive, and return its bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, file in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = file.stat().st_size, int(os.environ["SOURCE_DATE_EPOCH"])
            member.mode = 0o755 if os.access(file, os.X_OK) else 0o644
            tar.addfile(member, io.BytesIO(file.read_bytes()))
    # gzip's header would have a time and a name of its own
    packed = subprocess.run(["gzip", "-9n"], input=plain.getvalue(), capture_output=True, check=True).stdout
    archive.write_bytes(packed)
    return packed


def sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _git(*argv: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *argv], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist")
    options.add_argument("--without-images", action="store_true")
    given = options.parse_args()
    sys.exit(main(given.folder.absolute(), with_images=not given.without_images))
