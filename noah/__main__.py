"""`python -m noah`, and the scripts `noah` and `kubectl-noah`."""

import sys

from noah.cli import run


def main() -> None:
    sys.exit(run())


if __name__ == "__main__":
    main()
