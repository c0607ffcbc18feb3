"""What runs in somebody else's container: POSIX sh that takes arguments, never put together from names."""

from functools import cache
from importlib.resources import files


@cache
def script(name: str) -> str:
    """The text of NAME.sh."""
    return files(__package__).joinpath(f"{name}.sh").read_text(encoding="utf-8")
