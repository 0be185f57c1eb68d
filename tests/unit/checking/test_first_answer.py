"""A first request that compiles, against the server's limit for REST calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.checking.first_answer import check_first_answer
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.model_checks import CheckedModel, CheckedVersion
from npu_serving.findings import WARNING
from npu_serving.models.warm_up_file import WARM_UP_FILE


@pytest.mark.parametrize(
    ("server", "on_npu", "warm", "warned"),
    [
        ("{}", True, False, True),
        ("{warm_up: false}", True, True, True),
        ("{}", True, True, False),
        ("{}", False, False, False),
        ("{rest_api_port: 0}", True, False, False),
        ("{rest_api_timeout_in_ms: 600000}", True, False, False),
    ],
)
def test_a_model_without_warm_up_is_warned_about_where_rest_calls_would_be_given_up(
    tmp_path: Path, server: str, on_npu: bool, warm: bool, warned: bool
) -> None:
    file = tmp_path / "d.yaml"
    file.write_text(f"version: 1\nmodels: [{{name: m, base_path: /m}}]\nserver: {server}\n")
    if warm:
        (tmp_path / WARM_UP_FILE).parent.mkdir(parents=True)
        (tmp_path / WARM_UP_FILE).touch()
    model = CheckedModel("m", "/m", (CheckedVersion(1, tmp_path),), (), {} if on_npu else None)
    found = list(check_first_answer(read_deployment(file), [model]))
    assert [(each.severity, each.where) for each in found] == [(WARNING, "server")] * warned
    assert all("m compiles" in each.what and "504" in each.what for each in found)
