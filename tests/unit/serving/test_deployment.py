"""A deployment that means the NPU is not started where the CPU would silently serve it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.cann.layout import Component
from npu_serving.cann.operator_list import operator_list_table
from npu_serving.deploy.platform_config import PlatformConfigFile, PlatformEntry, render_platform_config
from npu_serving.errors import RequestError, ServerError
from npu_serving.serving.deployment import deployment_of


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.cfg"
    path.write_text(render_platform_config({"tensorflow": PlatformEntry({})}))
    return path


@pytest.fixture
def opp(tmp_path: Path) -> Path:
    fsutil.write_file(tmp_path / "opp" / operator_list_table().current, '{"Add": {}}')
    return tmp_path / "opp"


def test_the_npu_is_meant_where_the_config_says_so_and_the_sign_of_it_will_be_printed(config: Path, opp: Path) -> None:
    made = deployment_of(config, {"ASCEND_OPP_PATH": str(opp)})
    assert (made.uses_npu, made.warnings) == (True, ())
    assert made.variables == {"TF_CPP_MIN_LOG_LEVEL": "0"}


def test_a_log_level_that_hides_the_only_sign_is_replaced_and_named(config: Path, opp: Path) -> None:
    made = deployment_of(config, {"ASCEND_OPP_PATH": str(opp), "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert made.variables == {"TF_CPP_MIN_LOG_LEVEL": "0"}
    assert "TF_CPP_MIN_LOG_LEVEL is '3'" in made.warnings[0]
    cpu = deployment_of(None, {"TF_CPP_MIN_LOG_LEVEL": "3"})
    assert cpu.variables == {}


@pytest.mark.parametrize("given", [True, False])
def test_without_a_list_of_operators_it_is_refused_with_the_place_where_the_adapter_looks(
    config: Path, tmp_path: Path, given: bool
) -> None:
    env = {"ASCEND_OPP_PATH": str(tmp_path / "opp")} if given else {}
    with pytest.raises(ServerError, match="silently served by the CPU") as caught:
        deployment_of(config, env)
    assert "ASCEND_OPP_PATH" in caught.value.cause
    assert "Ascend-cann-toolkit" in caught.value.cure
    # Where the CPU is meant, the list is of no account.
    assert not deployment_of(None, env).uses_npu


def test_a_list_of_custom_operators_alone_is_a_warning(config: Path, tmp_path: Path) -> None:
    (tmp_path / "opp/built-in").mkdir(parents=True)
    fsutil.write_file(tmp_path / "own/framework/tensorflow/npu_supported_ops.json", '{"Mine": {}}')
    env = {"ASCEND_OPP_PATH": str(tmp_path / "opp"), "ASCEND_CUSTOM_OPP_PATH": str(tmp_path / "own")}
    assert "only custom operators" in deployment_of(config, env).warnings[0]


def test_a_list_that_this_user_may_not_read_is_not_called_missing(
    config: Path, opp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(*_arguments: object, **_words: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", shut)
    monkeypatch.setattr("npu_serving.serving.deployment.read_platform_config", lambda *_: PlatformConfigFile(True))
    with pytest.raises(ServerError, match="can't be read") as caught:
        deployment_of(config, {"ASCEND_OPP_PATH": str(opp)})
    assert caught.value.cause == "CANN was installed for other users only"
    assert "--install-for-all" in caught.value.cure


# ---- options that the adapter would refuse


def with_options(config: Path, **options: str) -> Path:
    """The config with lines for more options in it."""
    lines = "".join(f'parameter_map {{ key: "{name}" value {{ {value} }} }}\n' for name, value in options.items())
    good = config.read_text()
    config.write_text(good.replace('name: "NpuOptimizer"\n', f'name: "NpuOptimizer"\n{lines}'))
    return config


def test_options_that_would_end_the_server_are_refused_all_at_once_each_with_its_place(config: Path, opp: Path) -> None:
    wrong = with_options(config, input_shape='s: "x:-1"', local_rank_id="i: 0x9")
    with pytest.raises(RequestError) as caught:
        deployment_of(wrong, {"ASCEND_OPP_PATH": str(opp)})
    first = next(i for i, line in enumerate(wrong.read_text().splitlines(), 1) if "input_shape" in line)
    ranks, shapes = sorted(caught.value.what.splitlines(), reverse=True)
    assert shapes.startswith(f"{wrong}:{first}: input_shape is there without dynamic_dims and dynamic_node_type")
    assert (
        ranks == f"{wrong}:{first + 1}: local_rank_id: it is not from 0 to 7: the adapter would end the whole server."
    )
    assert "add dynamic_dims and dynamic_node_type, or leave input_shape out" in caught.value.cure


@pytest.mark.parametrize(
    ("release", "is_refused"), [("6.3.RC2", True), ("8.0.RC1", False), ("9.0.0", False), ("", False)]
)
def test_what_only_some_releases_refuse_is_refused_where_that_one_is_installed(
    config: Path, opp: Path, tmp_path: Path, release: str, is_refused: bool
) -> None:
    wrong = with_options(config, input_shape='s: "a/x:-1"', dynamic_dims='s: "1;2"', dynamic_node_type="i: 1")
    runtime = Component("toolkit", tmp_path, release) if release else None
    env = {"ASCEND_OPP_PATH": str(opp)}
    if is_refused:
        with pytest.raises(RequestError) as caught:
            deployment_of(wrong, env, runtime)
        assert caught.value.cause.startswith("TF Adapter of CANN 6.3.RC2 reads")
    else:
        assert deployment_of(wrong, env, runtime).uses_npu


def test_what_the_guide_forbids_and_the_adapter_takes_is_a_warning_with_its_place(config: Path, opp: Path) -> None:
    odd = with_options(config, hccl_timeout="i: 60", precision_mod='s: "x"')
    made = deployment_of(odd, {"ASCEND_OPP_PATH": str(opp)})
    assert made.uses_npu
    assert [warning.partition(": ")[2] for warning in made.warnings] == [
        "NpuOptimizer has no option 'precision_mod': it is silently ignored: write precision_mode",
        "hccl_timeout is for training: the guide forbids it (section 7.1.2 异常补救), this adapter does not check it: "
        "leave it out",
    ]


def test_a_config_for_the_cpu_is_judged_by_what_ends_the_server_all_the_same(config: Path) -> None:
    config.write_text(config.read_text().replace("b: true", "b: false"))
    made = deployment_of(with_options(config, hccl_timeout="i: 60"), {})
    assert (made.uses_npu, len(made.warnings)) == (False, 1)
    with pytest.raises(RequestError, match="input_shape is there without"):
        deployment_of(with_options(config, input_shape='s: "x:1"'), {})
