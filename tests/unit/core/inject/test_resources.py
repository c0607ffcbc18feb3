"""The sidecar's resources: a pod that fits its quota, its LimitRange and its class still does."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noah.core.inject.hooks import SIDECAR
from noah.core.inject.manifest import inject
from noah.core.inject.resources import _amount
from tests.unit.core.inject.manifests import HTTP, app, container_of, notes_of, pod


def sidecar_of(theirs: dict[str, Any] | None, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    more = {} if theirs is None else {"resources": theirs}
    manifest = pod(app(command=["java"], livenessProbe=HTTP, **more), annotations=annotations, **spec)
    found: dict[str, Any] = container_of(inject(manifest).manifest, SIDECAR).get("resources", {})
    return found


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        # The case: a quota of 1Gi and 2 CPUs, or a LimitRange with a minimum and a largest ratio.
        (
            {"requests": {"cpu": "200m", "memory": "600Mi"}, "limits": {"cpu": "1", "memory": "600Mi"}},
            {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "250m", "memory": "64Mi"}},
        ),
        # Guaranteed
        (
            {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
            {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
        ),
        (
            {"limits": {"cpu": 1, "memory": "1G"}},
            {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
        ),
        # less than ours
        (
            {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "48Mi"}},
            {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}},
        ),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "50m"}}),
        (
            {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "2Gi"}},
            {"requests": {"ephemeral-storage": "64Mi"}, "limits": {"ephemeral-storage": "64Mi"}},
        ),
        ({"limits": {"nvidia.com/gpu": 1}}, {}),
        ({}, {}),
        (None, {}),  # BestEffort
    ],
)
def test_a_pod_that_fits_still_fits(theirs: dict[str, Any] | None, ours: dict[str, Any]) -> None:
    assert sidecar_of(theirs) == ours


def test_where_the_pod_has_resources_its_containers_share_them() -> None:
    assert sidecar_of({"requests": {"cpu": "1"}}, resources={"limits": {"cpu": "2"}}) == {}


def test_an_annotation_sets_them() -> None:
    given_ = {"preonline-memory": "256Mi", "preonline-cpu": "0.2"}
    expected = {"cpu": "200m", "memory": "256Mi"}
    assert sidecar_of(None, given_) == {"requests": expected, "limits": expected}
    manifest = pod(app(command=["java"], livenessProbe=HTTP), annotations={"preonline-memory": "much"})
    assert "it takes a quantity, such as 128Mi" in notes_of(manifest)


quantities = st.builds(
    lambda number, unit: f"{number}{unit}", st.integers(1, 4096), st.sampled_from(["", "m", "k", "Mi", "Gi", "M", "e3"])
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "requests": st.dictionaries(st.sampled_from(["cpu", "memory"]), quantities),
            "limits": st.dictionaries(st.sampled_from(["cpu", "memory"]), quantities),
        },
    )
)
def test_no_limit_is_exceeded_and_no_ratio_grows(theirs: dict[str, dict[str, str]]) -> None:
    ours = sidecar_of(theirs)
    for name in ("cpu", "memory"):
        their_request, their_limit, request, limit = (
            _amount(each.get(kind, {}).get(name)) for each in (theirs, ours) for kind in ("requests", "limits")
        )
        if request is not None and limit is not None:
            assert request <= limit
        for mine, limit_of_theirs in ((request, their_request or their_limit), (limit, their_limit)):
            if mine is not None and mine > Fraction(1, 1000):
                assert limit_of_theirs is not None
                assert mine <= limit_of_theirs
        if their_limit is not None and limit is not None and request and their_request and their_limit >= their_request:
            assert limit / request <= their_limit / their_request + Fraction(1, 10)
