"""What troubleshooting.md says of an error's code: for the command line, the gateway's pages and the site of docs/."""

import re
from functools import cache
from importlib.resources import files


@cache
def explanations() -> dict[str, str]:
    """Return the text under each code, in Markdown."""
    # Not by a path: the command line may be one file (noah.pyz).
    text = files("noah").joinpath("troubleshooting.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {code: text.strip() for code, text in zip(parts[::2], parts[1::2], strict=True)}
