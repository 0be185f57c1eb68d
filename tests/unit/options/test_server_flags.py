"""The flags of the server: the table, and what is handed on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npu_serving.errors import RequestError
from npu_serving.options.server_flags import checked_flags, known_flags


def test_every_flag_of_the_table_has_a_type_and_a_default_of_that_type() -> None:
    kinds = {"int32": int, "int64": int, "float": float, "bool": bool, "string": str}
    assert len(known_flags()) == 29
    for flag in known_flags().values():
        assert flag.meaning
        assert flag.default is None or type(flag.default) is kinds[flag.type], flag


def test_flags_are_kept_in_their_order_and_a_bare_bool_is_true() -> None:
    flags = checked_flags(["--enable_batching", "--rest_api_num_threads=4", "--flush_filesystem_caches=false"])
    assert list(flags.items()) == [
        ("enable_batching", "true"),
        ("rest_api_num_threads", "4"),
        ("flush_filesystem_caches", "false"),
    ]


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("--rest-api-num-threads=4", "--rest_api_num_threads"),
        ("--enable_batch", "--enable_batching"),
        ("--max_load_retries=1", "--max_num_load_retries"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_nearest_known_one(text: str, suggested: str) -> None:
    with pytest.raises(RequestError, match="has no flag") as caught:
        checked_flags([text])
    assert suggested in caught.value.cure


@pytest.mark.parametrize(
    "texts",
    [
        ["enable_batching"],
        ["-enable_batching"],
        ["--"],
        ["--=1"],
        [""],
        ["--enable_batching=1"],
        ["--enable_batching=True"],
        ["--rest_api_num_threads"],
        ["--rest_api_num_threads=four"],
        ["--rest_api_num_threads=2147483648"],
        ["--rest_api_num_threads=٤"],
        ["--load_retry_interval_micros=9223372036854775808"],
        ["--per_process_gpu_memory_fraction=much"],
        ["--saved_model_tags=a\0b"],
        ["--enable_batching", "--enable_batching=false"],
        ["--port=1"],
        ["--version"],
        ["--model_base_path=/x"],
        ["--monitoring_config_file=/no/such/file"],
    ],
)
def test_what_the_server_could_not_parse_or_would_not_serve_with_is_refused(texts: list[str]) -> None:
    with pytest.raises(RequestError):
        checked_flags(texts)


@pytest.mark.parametrize("place", ["s3://bucket/a//b.config", "gs://b/x", "hdfs://name:9000/x"])
def test_a_file_that_the_server_reads_from_elsewhere_is_passed_on_untouched(place: str) -> None:
    assert checked_flags([f"--model_config_file={place}"]) == {"model_config_file": place}


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "monitoring é.config").touch()
    flags = checked_flags(["--monitoring_config_file=monitoring é.config", "--grpc_socket_path=socket"])
    assert flags["monitoring_config_file"] == str(tmp_path / "monitoring é.config")
    assert flags["grpc_socket_path"] == str(tmp_path / "socket")


@pytest.mark.parametrize("value", ["grpc.x", "grpc.x=1,", "grpc.x=1,grpc.y", "=1", ","])
def test_a_channel_argument_that_would_crash_the_server_is_refused(value: str) -> None:
    with pytest.raises(RequestError, match="is not NAME=VALUE") as caught:
        checked_flags([f"--grpc_channel_arguments={value}"])
    assert "SIGSEGV" in caught.value.cause
    (example,) = re.findall(r"--grpc_channel_arguments=\S+", caught.value.cure)
    assert checked_flags([example])
    assert checked_flags(["--grpc_channel_arguments="])
