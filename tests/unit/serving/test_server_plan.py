"""What a server is started with, and what is refused before it is."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import tempfile
from pathlib import Path

import pytest
from fake_builds import flags_of, plan

from npu_serving.cann.environment import CannEnvironment
from npu_serving.errors import NpuServingError, RequestError, ServerError
from npu_serving.models.layout import model_place
from npu_serving.serving.preflight import socket_warnings


@pytest.mark.parametrize("place", ["s3://bucket//models/m", "gs://b/m/", "hdfs://name:9000/m"])
def test_a_model_elsewhere_is_passed_on_untouched_and_not_looked_into(artifact: Path, place: str) -> None:
    made = plan(artifact, model_place(place, "--model-base-path"))
    assert flags_of(made)["model_base_path"] == place


def test_a_plan_names_the_real_program_with_absolute_paths_and_tries_a_bad_model_once(
    artifact: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "current").symlink_to(artifact.name)
    monkeypatch.chdir(model.parent)
    made = plan(Path("..") / "current", Path("m"), rest_api_port=0)
    assert made.argv[0] == str(artifact.resolve() / "bin" / "tensorflow_model_server")
    assert flags_of(made) == {
        "port": str(made.port),
        "rest_api_port": "0",
        "max_num_load_retries": "0",
        "model_name": "m",
        "model_base_path": str(model),
    }
    assert made.to_json()["argv"] == list(made.argv)


def test_the_retries_that_are_asked_for_are_kept(artifact: Path, model: Path) -> None:
    assert flags_of(plan(artifact, model, extra_flags=["--max_num_load_retries=3"]))["max_num_load_retries"] == "3"


def test_flags_that_a_platform_config_makes_useless_are_warned_of(artifact: Path, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.cfg"
    config.touch()
    flags = ["--enable_batching", "--tensorflow_session_parallelism=2", "--file_system_poll_wait_seconds=5"]
    (alone,) = plan(artifact, model, extra_flags=flags).warnings
    assert "every model runs on the CPU" in alone
    warnings = plan(artifact, model, extra_flags=flags, platform_config_file=config).warnings[:-1]
    assert [re.match(r"--\w+", warning)[0] for warning in warnings] == [  # type: ignore[index]
        "--enable_batching",
        "--tensorflow_session_parallelism",
    ]


def test_files_that_are_still_to_be_written_are_judged_by_their_texts(artifact: Path, tmp_path: Path) -> None:
    config, models = tmp_path / "new" / "config.cfg", tmp_path / "new" / "models.config"
    flags = [f"--model_config_file={models}"]
    made = plan(artifact, None, platform_config_file=config, extra_flags=flags, texts={config: "", models: ""})
    assert flags_of(made)["model_config_file"] == str(models)
    assert f"no NpuOptimizer is on in {config}" in made.warnings[-1]
    damaged = plan(artifact, None, platform_config_file=config, extra_flags=flags, texts={config: "{", models: ""})
    assert any(f"{config}:1:1" in warning for warning in damaged.warnings)
    with pytest.raises(RequestError, match=r"models\.config does not exist"):
        plan(artifact, None, platform_config_file=config, extra_flags=flags, texts={config: ""})
    assert not config.parent.exists()


def test_a_list_of_models_takes_the_place_of_a_model_directory(artifact: Path, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.touch()
    flags = [f"--model_config_file={config}"]
    assert "model_base_path" not in flags_of(plan(artifact, None, extra_flags=flags))
    with pytest.raises(RequestError, match="cannot be combined"):
        plan(artifact, model, extra_flags=flags)
    with pytest.raises(RequestError, match="Nothing says which model is to be served") as caught:
        plan(artifact, None)
    assert "--deployment FILE" in caught.value.cure


def test_a_list_of_models_that_somebody_wrote_is_checked_before_the_start_with_the_models_that_it_names(
    artifact: Path, model: Path, tmp_path: Path
) -> None:
    config, plain = tmp_path / "own.config", tmp_path / "plain"
    plain.symlink_to(model)
    flags = [f"--model_config_file={config}"]
    entry = f'config {{ name: "a" base_path: "{plain}" model_platform: "tensorflow" }}\n'
    config.write_text(f"model_config_list {{ {entry} }}")
    plan(artifact, None, extra_flags=flags)
    config.write_text(f"model_config_list {{ {entry} config {{ name: 'b' base_path: '{plain}' }} }}")
    with pytest.raises(RequestError, match=r"own\.config:2:2: the model 'b' has no platform"):
        plan(artifact, None, extra_flags=flags)
    missing = entry.replace('"a"', '"c"').replace(str(plain), str(tmp_path / "gone"))
    config.write_text(f"model_config_list {{ {entry} {missing} }}")
    with pytest.raises(RequestError, match=r"^c: .*gone does not exist.* does not offer a either"):
        plan(artifact, None, extra_flags=flags)


def test_a_model_without_a_version_directory_is_refused_with_the_layout(artifact: Path, tmp_path: Path) -> None:
    base = tmp_path / "bare"
    (base / "first").mkdir(parents=True)
    with pytest.raises(RequestError, match="no version directory") as caught:
        plan(artifact, base)
    assert "NAME/VERSION/saved_model.pb" in caught.value.cause


def test_the_highest_version_is_the_one_that_has_to_hold_a_model(artifact: Path, model: Path) -> None:
    (model / "1000").mkdir()
    with pytest.raises(RequestError, match=r"1000 contains no readable saved_model\.pb or saved_model\.pbtxt"):
        plan(artifact, model)
    (model / "1000" / "saved_model.pbtxt").touch()
    plan(artifact, model)


def test_a_version_directory_given_for_its_parent_is_told_from_a_model_without_versions(
    artifact: Path, model: Path
) -> None:
    with pytest.raises(RequestError, match="contains a model itself") as caught:
        plan(artifact, model / "00000123")
    assert caught.value.cure == f"name {model} instead"
    (model / "saved_model.pb").touch()
    with pytest.raises(RequestError, match="contains a model itself") as caught:
        plan(artifact, model)
    assert caught.value.cure.startswith("mkdir")


@pytest.mark.parametrize("changes", [{"port": 0}, {"port": 65536}, {"rest_api_port": -1}, {"rest_api_port": 65536}])
def test_ports_out_of_range_are_refused(artifact: Path, model: Path, changes: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="port must be from"):
        plan(artifact, model, **changes)


def test_one_port_for_both_apis_is_refused(artifact: Path, model: Path) -> None:
    with pytest.raises(RequestError, match="are both 8500"):
        plan(artifact, model, port=8500, rest_api_port=8500)


@pytest.mark.parametrize("which", ["port", "rest_api_port"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::"])
def test_a_port_in_use_is_named_even_when_its_holder_would_share_it(
    artifact: Path, model: Path, which: str, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no address {address}")
        holder.listen(1)
        port = holder.getsockname()[1]
        with pytest.raises(ServerError, match=f"Port {port} for (gRPC|REST) is already in use"):
            plan(artifact, model, **{which: port})


def test_a_directory_that_is_no_build_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a finished build"):
        plan(tmp_path, model)


def test_a_server_that_is_not_executable_is_refused(artifact: Path, model: Path) -> None:
    (artifact / "bin" / "tensorflow_model_server").chmod(0o644)
    with pytest.raises(RequestError, match="This user may not execute"):
        plan(artifact, model)


def test_a_build_on_a_file_system_without_exec_is_not_answered_with_chmod(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    class Noexec:
        f_flag = os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda path: Noexec() if str(path).endswith("/bin") else real(path))
    with pytest.raises(RequestError, match="No program can be started from") as caught:
        plan(artifact, model)
    assert "mounted noexec" in caught.value.cause
    assert "chmod" not in caught.value.cure


def test_a_tmpdir_in_which_cann_can_not_make_its_sockets_is_warned_of_and_a_shorter_one_helps() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for length, fits in ((107 - 32, True), (107 - 31, False)):
            directory = short + "/" + "d" * (length - len(short) - 1)
            assert (socket_warnings({"TMPDIR": directory}) == []) is fits
            place = Path(directory) / "pymp-XXXXXXXX"
            place.mkdir(parents=True)
            with socket.socket(socket.AF_UNIX) as one:
                if fits:
                    one.bind(str(place / "listener-XXXXXXXX"))
                else:
                    with pytest.raises(OSError, match="too long"):
                        one.bind(str(place / "listener-XXXXXXXX"))
    assert socket_warnings({}) == []
    assert "export TMPDIR=/tmp" in socket_warnings({"TMPDIR": "/" + "d" * 100})[0]


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "with blank", "é", "..", "a\0b", "a?b"])
def test_a_name_that_no_url_could_hold_is_refused(artifact: Path, model: Path, name: str) -> None:
    with pytest.raises(RequestError, match="is not a valid model name"):
        plan(artifact, model, model_name=name)


def test_a_model_directory_with_a_nul_is_refused(artifact: Path) -> None:
    with pytest.raises(NpuServingError):
        plan(artifact, Path("a\0b"))


def test_a_platform_config_that_is_not_there_is_refused(artifact: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--platform_config_file: the file .* does not exist"):
        plan(artifact, model, platform_config_file=tmp_path / "none")


def test_the_caller_environment_is_not_passed_on_but_for_what_the_server_reads(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASCEND_DEVICE_ID", "3")
    monkeypatch.setenv("TF_REVISION", "x")
    monkeypatch.setenv("LD_PRELOAD_OF_MINE", "x")
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}/callers:relative")
    made = plan(artifact, model, cann=CannEnvironment((tmp_path / "cann", tmp_path / "cann")))
    assert made.env["ASCEND_DEVICE_ID"] == "3"
    assert not {"TF_REVISION", "LD_PRELOAD_OF_MINE"} & set(made.env)
    assert made.env["LD_LIBRARY_PATH"] == f"{tmp_path}/cann:{tmp_path}/callers"
    assert f"LD_LIBRARY_PATH={tmp_path}/cann" in made.text()


def test_a_variable_that_the_deployment_states_counts_more_than_the_callers_and_canns(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cann = CannEnvironment(
        (tmp_path / "cann",), {"ASCEND_OPP_PATH": "/cann/opp"}, lists={"PYTHONPATH": (tmp_path / "python",)}
    )
    stated = {
        "OMP_NUM_THREADS": "4",
        "ASCEND_OPP_PATH": "/mine/opp",
        "OF_MY_OWN_OPERATOR": "x",
        "PYTHONPATH": "/mine/python",
        "LD_LIBRARY_PATH": f"{tmp_path}/mine",
    }
    made = plan(artifact, model, cann=cann, variables=stated)
    assert {name: made.env[name] for name in stated} == {
        **stated,
        "PYTHONPATH": f"{tmp_path}/python:/mine/python",
        "LD_LIBRARY_PATH": f"{tmp_path}/cann:{tmp_path}/mine",
    }


def test_a_start_is_not_turned_into_tuning_and_a_plan_in_json_shows_no_secret(
    artifact: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOE_MODE", "2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("https_proxy", "http://me:geheim@proxy:3128")
    made = plan(artifact, model)
    assert "AOE_MODE" not in made.env
    assert made.env["AWS_SECRET_ACCESS_KEY"] == "geheim"
    assert made.unlike_callers["AOE_MODE"] is None
    assert any("AOE_MODE is not passed on" in warning and "aoe_mode" in warning for warning in made.warnings)
    assert "geheim" not in str(made.to_json()) + made.text()


def test_a_library_directory_with_a_colon_is_refused(artifact: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="colon"):
        plan(artifact, model, cann=CannEnvironment((tmp_path / "a:b",)))


def test_a_pinned_server_is_shown_with_what_pins_it(artifact: Path, model: Path) -> None:
    made = dataclasses.replace(plan(artifact, model), processors=(0, 1, 2, 16))
    assert "taskset -c 0-2,16 " in made.text()
    assert made.to_json()["processors"] == [0, 1, 2, 16]
    assert made.argv[0].endswith("tensorflow_model_server")
    assert "taskset" not in plan(artifact, model).text()
