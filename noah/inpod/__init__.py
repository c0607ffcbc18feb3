"""What runs in somebody else's container: POSIX sh, handed over as one argument of `sh -c`, never put together from names."""

from importlib.resources import files


def script(name: str) -> str:
    """The text of NAME.sh."""
    return files(__package__).joinpath(f"{name}.sh").read_text(encoding="utf-8")
