"""Which of the caller's variables a server gets, and which are named because they are left out."""

from __future__ import annotations

import pytest

from npu_serving.options.server_environment import known_variables, server_environment

OF_THE_SHELL = [
    "ASCEND_OPP_PATH",
    "ASCEND_CUSTOM_OPP_PATH",
    "DEVICE_ID",
    "JOB_ID",
    "PRINT_MODEL",
    "ENABLE_HF32_EXECUTION",
    "NPU_COLLECT_PATH",
    "DUMP_GRAPH_PATH",
    "PROFILING_MODE",
    "LD_PRELOAD",
    "GLIBC_TUNABLES",
    "OMP_NUM_THREADS",
    "MALLOC_ARENA_MAX",
    "AWS_ACCESS_KEY_ID",
    "S3_ENDPOINT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "HADOOP_HDFS_HOME",
    "http_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "no_proxy",
    "PYTHONPATH",
    "TF_CPP_MIN_LOG_LEVEL",
]


@pytest.mark.parametrize("name", OF_THE_SHELL)
def test_a_variable_that_a_server_reads_is_passed_on(name: str) -> None:
    assert server_environment({name: "x"}).variables == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        "AOE_MODE",
        "TF_CONFIG",
        "RANK_TABLE_FILE",
        "RANK_SIZE",
        "RANK_ID",
        "CM_CHIEF_IP",
        "HELP_CLUSTER",
        "STEP_NOW",
        "TARGET_LOSS",
    ],
)
def test_a_variable_that_would_change_what_a_server_does_is_left_out_and_named(name: str) -> None:
    made = server_environment({name: "1"})
    assert (made.variables, made.left_out) == ({}, (name,))
    (warning,) = made.warnings
    assert warning.startswith(f"{name} is not passed on to the server: ")


@pytest.mark.parametrize(
    "name", ["PS1", "LD_AUDIT", "LD_PRELOAD_OF_MINE", "TF_REVISION", "POD_NAME", "NPU_SERVING_VENV"]
)
def test_a_variable_that_does_nothing_in_a_server_is_left_out_silently(name: str) -> None:
    made = server_environment({name: "x"})
    assert (made.variables, made.warnings) == ({}, ())


def test_each_line_of_the_table_has_its_reason_and_is_of_effect() -> None:
    before: list[str] = []
    for line in known_variables():
        assert line.why
        hidden = [name for name in before if name.endswith("*") and line.match.startswith(name[:-1])]
        assert hidden == [], f"{line.match} stands behind a line that counts first"
        before.append(line.match)
