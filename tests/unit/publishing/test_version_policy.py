"""Versions and labels before, while and after a version is published: nothing that a label names is unloaded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving.deploy.deployment_sections import DeployedModel, LatestVersions
from npu_serving.errors import RequestError
from npu_serving.publishing.version_policy import (
    served_among,
    versions_of,
    versions_text,
    with_new_version,
    without_version,
)


def model(versions: Any = 1, **labels: int) -> DeployedModel:
    return DeployedModel("m", "/m", LatestVersions(versions) if isinstance(versions, int) else versions, labels)


@pytest.mark.parametrize(
    ("deployed", "version", "label", "during", "after", "labels"),
    [
        (model(1), 2, "", None, 1, {}),
        (model("all"), 2, "stable", None, "all", {"stable": 2}),
        (model(1, stable=1), 2, "stable", (1, 2), 1, {"stable": 2}),
        (model(1, stable=1), 2, "", (1, 2), (1, 2), {"stable": 1}),
        (model((1,)), 2, "", (1, 2), (2,), {}),
        (model((1,), stable=1), 2, "canary", (1, 2), (1, 2), {"stable": 1, "canary": 2}),
        (model((1,), stable=1), 2, "stable", (1, 2), (2,), {"stable": 2}),
        (model((1, 2)), 3, "", (1, 2, 3), (1, 2, 3), {}),
        (model((1, 2), stable=1), 2, "stable", (1, 2), (1, 2), {"stable": 2}),
    ],
)
def test_a_new_version_is_served_beside_what_labels_name(
    deployed: DeployedModel, version: int, label: str, during: Any, after: Any, labels: dict[str, int]
) -> None:
    there = {1, 2} - {version} if version == 2 else {1, 2}
    change = with_new_version(deployed, version, there, label=label)
    assert (change.during, change.after, dict(change.labels_after)) == (during, after, labels)


def test_a_number_that_would_not_be_served_is_refused() -> None:
    with pytest.raises(RequestError, match=r"would not be served: the deployment has the latest 1, 7"):
        with_new_version(model(1), 3, {1, 7})


def test_unloading_first_leaves_the_new_version_alone_and_moves_its_labels() -> None:
    for deployed in (model(1, stable=1), model((1,), stable=1)):
        change = with_new_version(deployed, 2, {1}, unload_first=True)
        assert (change.during, change.labels_during, dict(change.labels_after)) == ((2,), {}, {"stable": 2})
        assert served_among(change.after, {1, 2}) == (2,)
    for deployed in (model("all"), model(2), model((1, 2))):
        with pytest.raises(RequestError, match="--unload-first is for a model of which one version is served"):
            with_new_version(deployed, 3, {1, 2}, unload_first=True)


@pytest.mark.parametrize(
    ("deployed", "current", "label", "after", "labels"),
    [
        (model(1), 2, "", (1,), {}),
        (model("all"), 2, "", (1,), {}),
        (model((2,)), 2, "", (1,), {}),
        (model((1, 2), stable=2), 2, "stable", (1, 2), {"stable": 1}),
        (model(1, stable=2), 2, "stable", (1, 2), {"stable": 1}),
        (model(1, stable=2), 2, "", (1,), {"stable": 1}),
    ],
)
def test_going_back_serves_the_former_version(
    deployed: DeployedModel, current: int, label: str, after: Any, labels: dict[str, int]
) -> None:
    change = without_version(deployed, current, 1, {1, 2}, label=label)
    assert (change.after, dict(change.labels_after)) == (after, labels)
    assert change.during == (1, 2)


VERSIONS = st.integers(0, 9)


@st.composite
def deployments(draw: st.DrawFn) -> tuple[DeployedModel, set[int]]:
    there = draw(st.sets(VERSIONS, min_size=1))
    versions = draw(
        st.one_of(st.just("all"), st.integers(1, 3), st.sets(st.sampled_from(sorted(there)), min_size=1).map(tuple))
    )
    deployed = model(versions)
    served = served_among(versions_of(deployed), there)
    labels = draw(st.dictionaries(st.sampled_from(["stable", "canary"]), st.sampled_from(sorted(served))))
    return model(versions, **labels), there


@settings(max_examples=examples(200, 20_000), deadline=None)
@given(deployments(), VERSIONS, st.sampled_from(["", "stable", "new"]))
def test_no_label_is_ever_without_its_version(whole: tuple[DeployedModel, set[int]], version: int, label: str) -> None:
    deployed, there = whole
    try:
        change = with_new_version(deployed, version, there, label=label)
    except RequestError:
        assert isinstance(versions_of(deployed), int)
        return
    now = {*there, version}
    during = served_among(change.during if change.during is not None else change.before, now)
    after = served_among(change.after, now)
    assert version in during
    assert version in after
    assert set(change.labels.values()) <= set(during)
    assert set(change.labels_after.values()) <= set(after) & set(during)
    assert set(served_among(change.before, there)) <= set(during) or change.during is None


def test_versions_are_shown_as_a_deployment_has_them() -> None:
    assert [versions_text(each) for each in (2, "all", (3, 4))] == ["latest: 2", "all", "[3, 4]"]
