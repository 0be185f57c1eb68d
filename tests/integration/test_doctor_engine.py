"""doctor beside a real Docker engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from docker_support import require_engine

from npu_serving.building.patching import patch_findings
from npu_serving.console import Silent
from npu_serving.doctor.examination import examine
from npu_serving.findings import NOT_NEEDED, OK
from npu_serving.settings import Settings

pytestmark = pytest.mark.docker


def test_an_engine_that_answers_is_found_with_its_version_and_the_space_for_its_images(tmp_path: Path) -> None:
    require_engine()
    report = examine(
        Settings(source="sample", adapter="sample", build_root=tmp_path), "docker", Silent(), patches=patch_findings
    )
    findings = {finding.kind: finding for finding in report.findings}
    assert findings["docker"].severity == OK
    assert findings["docker"].found.startswith("engine ")
    assert findings["docker-disk"].severity != NOT_NEEDED
    assert (
        examine(Settings(source="sample", build_root=tmp_path), "auto", Silent(), patches=patch_findings).runner
        == "docker"
    )
