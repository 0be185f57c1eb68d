"""Settings of gRPC by their names."""

from __future__ import annotations

from npu_serving.deploy.channel_checks import check_channel_arguments
from npu_serving.findings import WARNING


def test_a_setting_that_grpc_does_not_know_is_a_warning_with_the_nearest_one() -> None:
    (finding,) = check_channel_arguments(["grpc.max_connection_age_ms", "grpc.max_conection_age_ms"])
    assert (finding.severity, finding.where) == (WARNING, "server.grpc_channel_arguments")
    assert "grpc.max_conection_age_ms" in finding.what
    assert finding.cure == "write grpc.max_connection_age_ms"
    assert list(check_channel_arguments(["grpc.max_connection_age_ms"])) == []


def test_one_that_is_like_none_is_to_be_left_out() -> None:
    (finding,) = check_channel_arguments(["x"])
    assert finding.cure == "leave it out"
