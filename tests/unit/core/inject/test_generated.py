"""inject, then eject, gives back what there was, whatever that is: manifests made up from a seed."""

import pytest

from noah.cli.manifests.manifests import eject, inject
from tests.generated import manifests


def put_in_and_taken_out(seed: int, count: int) -> int:
    """How many were changed."""
    changed = 0
    for text, _ in manifests(seed, count):
        injected = inject(text)
        changed += injected.text != text
        assert eject(injected.text).text == text
        assert inject(injected.text) == injected
        assert injected.refused == ()
    return changed


def test_any_manifest_comes_back_byte_for_byte() -> None:
    assert put_in_and_taken_out(seed=1, count=12) > 6


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_five_hundred_manifests_come_back_byte_for_byte() -> None:
    assert put_in_and_taken_out(seed=2, count=500) > 250
