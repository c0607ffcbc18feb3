"""What troubleshooting.md says of an error's code: for the command line, the gateway's pages and the site of docs/."""

import re
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "troubleshooting.md"


@cache
def explanations() -> dict[str, str]:
    """Return the text under each code, in Markdown."""
    _, *parts = re.split(r"^## (.+)$", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {code: text.strip() for code, text in zip(parts[::2], parts[1::2], strict=True)}
