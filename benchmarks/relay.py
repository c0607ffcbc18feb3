"""The byte path against plain TCP proxies, side by side: direct, socat, nginx's stream module, HAProxy, the gateway.

    python -m benchmarks.relay [--quick] [--json build/relay.json]

Every proxy runs on one core; the load (load.c: a JVM's agent and a debugger, in C) on another. The proxies take turns
within each round, so that a machine that is busy for a while is busy for all of them; what is shown is the median of
the rounds. The gateway runs with uvloop and without, its observer on.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import JVM_PORT, SESSIONS, Contender, all_contenders, gateway

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
LOAD = BUILD / "load"
LOAD_CORE = "1"
PACKET = 256 << 10
IDLE = 1000  # connections
IDLE_FOR = 10.0  # seconds


@dataclass(frozen=True)
class Measure:
    """A verb of load.c with its arguments, and the names of the figures that it prints."""

    verb: str
    arguments: tuple[int, ...]
    figures: tuple[str, ...]


TRIP, TRIP_99, BULK, CONNECT, CONNECT_99, MANY = FIGURES = (
    "round trip p50, µs",
    "round trip p99, µs",
    "bulk, MiB/s",
    "connect p50, µs",
    "connect p99, µs",
    f"{SESSIONS} sessions, commands/s",
)
KIB_EACH, IDLE_CPU = "KiB per idle connection", "CPU of 1,000 idle connections, %"


@dataclass(frozen=True)
class Target:
    figure: str
    against: str | None  # a contender; None: the figure itself is what has a limit
    limit: float
    at_least: bool = False

    def value(self, medians: Mapping[str, Mapping[str, float]], of: str) -> float:
        mine = medians[of][self.figure]
        return mine / medians[self.against][self.figure] if self.against else mine

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        sign, unit = ("≥" if self.at_least else "≤"), f" × {self.against}" if self.against else ""
        return f"{self.figure} {sign} {self.limit:g}{unit}"


TARGETS = (
    Target(TRIP, "nginx", 1.1),
    Target(TRIP_99, "nginx", 1.3),
    Target(BULK, "haproxy", 1.0, at_least=True),
    Target(CONNECT, "nginx", 1.5),
    Target(MANY, "nginx", 0.8, at_least=True),
    Target(KIB_EACH, None, 40),
    Target(IDLE_CPU, None, 2),
)


def measures(*, quick: bool) -> list[Measure]:
    return [
        Measure("trip", (2000 if quick else 10_000,), (TRIP, TRIP_99)),
        Measure("bulk", (512 if quick else 2048, PACKET), (BULK,)),
        Measure("connect", (100 if quick else 400,), (CONNECT, CONNECT_99)),
        Measure("many", (SESSIONS, 1 if quick else 3), (MANY,)),
    ]


def load(verb: str, port: int, *arguments: int) -> list[float]:
    argv = ["taskset", "-c", LOAD_CORE, str(LOAD), verb, str(port), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    return [float(word) for word in done.stdout.split()]


@contextmanager
def running(argv: Sequence[str], *, stdin: int | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def rounds(contenders: Sequence[Contender], count: int, *, quick: bool) -> dict[str, dict[str, float]]:
    """The median of each figure, by contender."""
    seen: dict[tuple[str, str], list[float]] = {}
    for number in range(count):
        print(f"round {number + 1} of {count}", file=sys.stderr)
        for measure in measures(quick=quick):
            for contender in contenders:
                if measure.verb == "many" and not contender.has_many_ports:
                    continue
                values = load(measure.verb, contender.first_port, *measure.arguments)
                for figure, value in zip(measure.figures, values, strict=True):
                    seen.setdefault((contender.name, figure), []).append(value)
    medians: dict[str, dict[str, float]] = {contender.name: {} for contender in contenders}
    for (name, figure), values in seen.items():
        medians[name][figure] = statistics.median(values)
    return medians


def idle(*, uvloop: bool) -> dict[str, float]:
    """Measure what 1,000 debuggers cost that are attached, each through its own port, and quiet."""
    contender = gateway(first_port=30_000, ports=IDLE, uvloop=uvloop)
    with contender.up() as pid:
        before = resident_kib(pid)
        with running([str(LOAD), "hold", str(contender.first_port), str(IDLE)], stdin=subprocess.PIPE) as debuggers:
            assert debuggers.stdout is not None
            assert debuggers.stdout.readline() == "held\n"
            after, began = resident_kib(pid), cpu_seconds(pid)
            time.sleep(IDLE_FOR)
            spent = cpu_seconds(pid) - began
    return {KIB_EACH: (after - before) / IDLE, IDLE_CPU: 100 * spent / IDLE_FOR}


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(medians: Mapping[str, Mapping[str, float]]) -> str:
    names = list(medians)
    lines = [" " * 34 + "".join(f"{name:>18}" for name in names)]
    for figure in (*FIGURES, KIB_EACH, IDLE_CPU):
        cells = (medians[name].get(figure) for name in names)
        lines.append(f"{figure:34}" + "".join(f"{'-' if cell is None else f'{cell:,.1f}':>18}" for cell in cells))
    return "\n".join(lines)


def verdicts(medians: Mapping[str, Mapping[str, float]]) -> list[dict[str, object]]:
    return [
        {"target": str(target), "gateway": name, "value": round(value, 3), "met": target.is_met(value)}
        for name in medians
        if name.startswith("gateway")
        for target in TARGETS
        for value in [target.value(medians, name)]
    ]


def build_load() -> None:
    BUILD.mkdir(exist_ok=True)
    subprocess.run(["cc", "-O2", "-o", LOAD, HERE / "load.c"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a look")
    parser.add_argument(
        "--realtime", action="store_true", help="ahead of everything else on this machine (as root; it stalls the rest)"
    )
    parser.add_argument("--json", type=Path, default=BUILD / "relay.json")
    arguments = parser.parse_args()
    if missing := [tool for tool in ("cc", "taskset", "socat", "nginx", "haproxy") if not shutil.which(tool)]:
        raise SystemExit(
            f"{', '.join(missing)}: not installed; apt install gcc util-linux socat libnginx-mod-stream haproxy"
        )
    build_load()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))  # and so everything that this starts
    jvm = running(["taskset", "-c", LOAD_CORE, str(LOAD), "serve", str(JVM_PORT)])
    with tempfile.TemporaryDirectory() as folder, jvm, all_contenders(Path(folder)) as contenders:
        medians = rounds(contenders, 3 if arguments.quick else 9, quick=arguments.quick)
        medians["gateway, uvloop"] |= idle(uvloop=True)
        medians["gateway"] |= idle(uvloop=False)
    results = verdicts(medians)
    print(table(medians), end="\n\n")
    for verdict in results:
        print("{gateway:16} {target:45} {value:8} {}".format("" if verdict["met"] else "MISSED", **verdict))
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    arguments.json.write_text(json.dumps({"machine": machine, "figures": medians, "targets": results}, indent=2))


if __name__ == "__main__":
    main()
