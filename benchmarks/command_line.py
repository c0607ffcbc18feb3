"""How long a prompt takes to come back: `python -m benchmarks.command_line` runs each command 20 times, warm.

What Python itself needs is beside them, and so is kubectl's own version where there is one.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

RUNS = 20


def milliseconds(argv: Sequence[str]) -> list[float]:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        return (time.perf_counter() - start) * 1000

    once()
    return sorted(once() for _ in range(RUNS))


def main() -> None:
    noah = [sys.executable, "-m", "noah"]
    commands = {"python -c pass": [sys.executable, "-c", "pass"], "noah version": [*noah, "version"]}
    commands["noah completion fish"] = [*noah, "completion", "fish"]
    if shutil.which("kubectl"):
        commands["kubectl version --client"] = ["kubectl", "version", "--client"]
    measured = {name: milliseconds(argv) for name, argv in commands.items()}
    for name, took in measured.items():
        print(f"{name:<28} median {statistics.median(took):6.0f} ms   worst {took[-1]:6.0f} ms")
    print(json.dumps({name: round(statistics.median(took), 1) for name, took in measured.items()}))


if __name__ == "__main__":
    main()
