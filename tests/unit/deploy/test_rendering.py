"""The files of a deployment, read back by protobuf's text format, bash, bin/serve and systemd: not by our own code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from serving_messages import read_message, session_bundles

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.rendering import FILES, RenderedFile, rendered_files, server_flags_of, server_variables
from npu_serving.errors import FileAccessError, RequestError
from npu_serving.models.layout import check_model_name
from npu_serving.options.server_flags import known_flags

PEM = "-----BEGIN PRIVATE KEY-----\nAB+/=\n-----END PRIVATE KEY-----\n"


def deployment(directory: Path, **sections: Any) -> DeploymentFile:
    whole = {"version": 1, "models": [{"name": "a", "base_path": "/models/a"}], **sections}
    file = directory / "d.json"
    file.write_text(json.dumps(whole), encoding="utf-8")
    return read_deployment(file)


def rendered(directory: Path, **sections: Any) -> dict[str, RenderedFile]:
    return rendered_files(deployment(directory, **sections), Path("/etc/npu-serving"))


def models_of(files: dict[str, RenderedFile]) -> list[Any]:
    return list(read_message(files["models.config"].text, "ModelServerConfig").model_config_list.config)


def npu_options(bundle: Any) -> dict[str, object]:
    (optimizer,) = bundle.session_config.graph_options.rewrite_options.custom_optimizers
    assert optimizer.name == "NpuOptimizer"
    found = {}
    for name, value in optimizer.parameter_map.items():
        read = getattr(value, value.WhichOneof("value"))
        found[name] = read.decode() if isinstance(read, bytes) else read
    return found


def flags_of(files: dict[str, RenderedFile]) -> dict[str, str]:
    lines = [line for line in files["flags"].text.splitlines() if not line.startswith("#")]
    return dict(line.removeprefix("--").split("=", 1) for line in lines)


# ---- config.cfg


def test_the_options_of_a_model_are_read_back_with_their_kinds(tmp_path: Path) -> None:
    options = {"mix_compile_mode": True, "op_debug_level": 7, "job": '{"a": "b"}\n}', "x": "é\\"}
    (bundle,) = session_bundles(rendered(tmp_path, npu=options)["config.cfg"].text).values()
    read = npu_options(bundle)
    assert read == {"use_off_line": True, "graph_run_mode": 0, "precision_mode_v2": "fp16", **options}
    assert type(read["mix_compile_mode"]) is bool
    rewriter = bundle.session_config.graph_options.rewrite_options
    assert (rewriter.remapping, rewriter.memory_optimization) == (2, 1)  # Toggle.OFF, NO_MEM_OPT


def test_without_npu_no_optimizer_is_asked_for(tmp_path: Path) -> None:
    (bundle,) = session_bundles(rendered(tmp_path)["config.cfg"].text).values()
    assert not bundle.session_config.HasField("graph_options")


def test_what_a_platform_config_would_otherwise_swallow_is_written_into_it(tmp_path: Path) -> None:
    files = rendered(
        tmp_path,
        server={
            "saved_model_tags": ["serve", "gpu"],
            "warm_up_iterations": 3,
            "batching": {
                "max_batch_size": 8,
                "batch_timeout_micros": 0,
                "max_enqueued_batches": 5,
                "num_batch_threads": 2,
                "allowed_batch_sizes": [4, 8],
                "pad_variable_length_inputs": True,
            },
        },
        cpu={"intra_op_threads": 3, "inter_op_threads": 4},
    )
    (bundle,) = session_bundles(files["config.cfg"].text).values()
    assert list(bundle.saved_model_tags) == ["serve", "gpu"]
    assert bundle.enable_model_warmup
    assert bundle.model_warmup_options.num_request_iterations.value == 3
    assert bundle.remove_unused_fields_from_bundle_metagraph
    assert bundle.session_config.intra_op_parallelism_threads == 3
    assert bundle.session_config.inter_op_parallelism_threads == 4
    batching = bundle.batching_parameters
    assert (batching.max_batch_size.value, batching.num_batch_threads.value) == (8, 2)
    assert batching.HasField("batch_timeout_micros")
    assert (batching.max_enqueued_batches.value, batching.pad_variable_length_inputs) == (5, True)
    assert list(batching.allowed_batch_sizes) == [4, 8]
    ignored = {name for name, flag in known_flags().items() if flag.ignored_with_platform_config}
    assert ignored.isdisjoint(flags_of(files))


def test_the_defaults_are_those_of_a_server_without_a_platform_config(tmp_path: Path) -> None:
    (bundle,) = session_bundles(rendered(tmp_path)["config.cfg"].text).values()
    assert list(bundle.saved_model_tags) == [known_flags()["saved_model_tags"].default]
    assert bundle.enable_model_warmup is known_flags()["enable_model_warmup"].default
    unused = known_flags()["remove_unused_fields_from_bundle_metagraph"].default
    assert bundle.remove_unused_fields_from_bundle_metagraph is unused
    assert not bundle.HasField("batching_parameters")
    (off,) = session_bundles(rendered(tmp_path, server={"warm_up": False})["config.cfg"].text).values()
    assert not off.enable_model_warmup


def test_batching_with_its_defaults_is_batching_all_the_same(tmp_path: Path) -> None:
    (bundle,) = session_bundles(rendered(tmp_path, server={"batching": {}})["config.cfg"].text).values()
    assert bundle.HasField("batching_parameters")


# ---- models.config


def test_models_are_read_back_with_versions_labels_and_the_platform_of_their_options(tmp_path: Path) -> None:
    files = rendered(
        tmp_path,
        models=[
            {"name": "a", "base_path": "/models/a", "versions": [2, 7], "labels": {'sta"ble': 2}},
            {"name": "b", "base_path": "s3://bucket/b", "versions": "all", "npu": {"mix_compile_mode": True}},
            {"name": "c", "base_path": "/c", "versions": {"latest": 3}},
            {"name": "d", "base_path": "/d"},
        ],
        npu={},
    )
    a, b, c, d = models_of(files)
    assert [model.model_platform for model in (a, b, c, d)] == [
        "tensorflow",
        "tensorflow_2",
        "tensorflow",
        "tensorflow",
    ]
    assert list(a.model_version_policy.specific.versions) == [2, 7]
    assert dict(a.version_labels) == {'sta"ble': 2}
    assert b.model_version_policy.WhichOneof("policy_choice") == "all"
    assert c.model_version_policy.latest.num_versions == 3
    assert not d.HasField("model_version_policy")
    assert set(session_bundles(files["config.cfg"].text)) == {"tensorflow", "tensorflow_2"}
    assert flags_of(files)["allow_version_labels_for_unavailable_models"] == "true"


def is_a_name(text: str) -> bool:
    try:
        check_model_name(text)
    except RequestError:
        return False
    return True


texts = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(
    name=some.text("aA0-_.~!$&'()*+,;=@", min_size=1, max_size=8).filter(is_a_name),
    path=texts,
    option=texts | some.booleans() | some.integers(-(2**63), 2**63 - 1),
)
@example(name="-a", path='"}\nconfig { name: "x" }', option='"} } parameter_map { key: "y" }')
@example(name="$&'(", path="/..//%s{{ x }}", option="{{ 1 }} {% if %}\\")
@settings(max_examples=60)
def test_no_value_can_leave_its_field(
    tmp_path_factory: pytest.TempPathFactory, name: str, path: str, option: bool | int | str
) -> None:
    directory = tmp_path_factory.mktemp("d")
    files = rendered(directory, models=[{"name": name, "base_path": f"/{path}"}], npu={"x": option})
    (model,) = models_of(files)
    assert (model.name, model.base_path) == (name, f"/{path}")
    (bundle,) = session_bundles(files["config.cfg"].text).values()
    read = npu_options(bundle)["x"]
    assert (type(read), read) == (type(option), option)


# ---- monitoring and TLS


def test_the_metrics_are_at_the_path_that_was_asked_for(tmp_path: Path) -> None:
    files = rendered(tmp_path, server={"monitoring": {"path": "/metrics"}})
    read = read_message(files["monitoring.config"].text, "MonitoringConfig").prometheus_config
    assert (read.enable, read.path) == (True, "/metrics")
    assert flags_of(files)["monitoring_config_file"] == "/etc/npu-serving/monitoring.config"
    assert "monitoring.config" not in rendered(tmp_path)


def test_tls_has_the_texts_of_the_files_and_no_paths(tmp_path: Path) -> None:
    key, cert, ca = (tmp_path / name for name in ("key", "cert", "ca"))
    for path in (key, cert, ca):
        path.write_text(PEM.replace("AB", path.name))
    tls = {"server_key": str(key), "server_cert": str(cert), "custom_ca": str(ca), "client_verify": True}
    file = rendered(tmp_path, server={"tls": tls})["ssl.config"]
    read = read_message(file.text, "SSLConfig")
    assert (read.server_key, read.server_cert, read.custom_ca) == tuple(path.read_text() for path in (key, cert, ca))
    assert read.client_verify
    assert (file.mode, file.confidential) == (0o600, True)


def test_a_key_that_is_missing_or_no_pem_is_refused_before_a_server_is_started(tmp_path: Path) -> None:
    tls = {"server_key": str(tmp_path / "none"), "server_cert": str(tmp_path / "none")}
    with pytest.raises(FileAccessError, match="none"):
        rendered(tmp_path, server={"tls": tls})
    (tmp_path / "none").write_bytes(b"\x30\x82")
    with pytest.raises(RequestError, match="not a PEM file"):
        rendered(tmp_path, server={"tls": tls})


# ---- flags


def test_every_flag_is_one_of_the_servers_and_has_its_kind(tmp_path: Path) -> None:
    made = deployment(
        tmp_path,
        server={
            "rest_api_num_threads": 4,
            "rest_api_timeout_in_ms": 5,
            "grpc_channel_arguments": {"grpc.max_connection_age_ms": 2000, "grpc.x": "y"},
            "grpc_socket_path": "/run/serving.sock",
            "file_system_poll_wait_seconds": 5,
            "model_config_file_poll_wait_seconds": 60,
            "load_retry_interval_micros": 7,
            "flush_filesystem_caches": False,
            "monitoring": {},
        },
    )
    flags = server_flags_of(made, Path("/d"))
    assert flags["grpc_channel_arguments"] == "grpc.max_connection_age_ms=2000,grpc.x=y"
    assert flags["flush_filesystem_caches"] == "false"
    assert flags["file_system_poll_wait_seconds"] == "5"
    assert flags["max_num_load_retries"] == "0"
    for name, value in flags.items():
        kind = known_flags()[name].type
        assert {"int32": value.isdecimal(), "int64": value.isdecimal(), "bool": value in ("true", "false")}.get(
            kind, True
        )


def test_every_file_is_in_one_directory_and_every_path_that_the_server_gets_is_a_whole_one(tmp_path: Path) -> None:
    made = deployment(tmp_path, server={"monitoring": {}}, npu={"op_debug_config": ["oom"]})
    files = rendered_files(made, Path("/etc/it"))
    assert all("/" not in name for name in files)
    named = {name: value for name, value in server_flags_of(made, Path("/etc/it")).items() if name.endswith("_file")}
    assert sorted(named.values()) == [
        f"/etc/it/{name}" for name in ("config.cfg", "models.config", "monitoring.config")
    ]
    assert "/etc/it/op_debug.cfg" in files["config.cfg"].text
    assert all(config.base_path.startswith("/") for config in models_of(files))


def test_bin_serve_starts_the_server_with_the_flags_and_the_environment(tmp_path: Path) -> None:
    directory = tmp_path / 'it\'s "mine" $x #1'.replace('"', "")
    directory.mkdir()
    made = deployment(tmp_path, environment={"A": "it's $HOME `x`"}, cann=str(tmp_path / "no CANN"))
    for name, file in rendered_files(made, directory).items():
        (directory / name).write_text(file.text)
        (directory / name).chmod(file.mode)
    package = tmp_path / "package/bin"
    package.mkdir(parents=True)
    shutil.copy("docker/runtime/serve", package / "serve")
    server = package / "tensorflow_model_server"
    server.write_text('#!/bin/sh\nprintf "<%s>" "$A" "$@"\n')
    server.chmod(0o755)
    done = subprocess.run(
        [directory / "start.sh"],
        env={"PATH": "/usr/bin:/bin", "NPU_SERVING_SERVE": str(package / "serve")},
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = [f"--{name}={value}" for name, value in server_flags_of(made, directory).items()]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"<{word}>" for word in ["it's $HOME `x`", *wanted])


def test_the_start_script_puts_the_limits_of_a_cache_where_they_count(tmp_path: Path) -> None:
    cache = tmp_path / "it's a cache"
    limits = {"ascend_max_op_cache_size": 2000, "ascend_remain_cache_size_ratio": 60}
    files = rendered(tmp_path, npu={"op_compiler_cache_dir": {"directory": str(cache), **limits}})
    assert f's: "{cache}"' in files["config.cfg"].text
    for name, file in files.items():
        (tmp_path / name).write_text(file.text)
    script = files["start.sh"].text.replace("/etc/npu-serving", str(tmp_path))
    environment = {"PATH": "/usr/bin:/bin", "NPU_SERVING_SERVE": "/bin/true"}
    subprocess.run(["bash", "-c", script], env=environment, check=True)
    assert (cache / "op_cache.ini").read_text() == files["op_cache.ini"].text
    assert "ascend_max_op_cache_size=2000\n" in files["op_cache.ini"].text


def test_a_start_without_a_package_says_what_to_install(tmp_path: Path) -> None:
    script = tmp_path / "start.sh"
    script.write_text(rendered(tmp_path)["start.sh"].text)
    environment = {"PATH": "/usr/bin:/bin", "NPU_SERVING_SERVE": str(tmp_path / "none")}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "./inv package" in done.stderr


def started_by(tmp_path: Path, cpu: dict[str, object], replaced: tuple[str, str] = ("", "")) -> tuple[int, str, str]:
    """Exit status, output and errors of the script, with a bin/serve that prints the processors that it may run on."""
    directory = tmp_path / "it's mine"
    directory.mkdir()
    for name, file in rendered_files(deployment(tmp_path, cpu=cpu), directory).items():
        (directory / name).write_text(file.text.replace(*replaced) if replaced[0] else file.text)
    serve = tmp_path / "serve"
    serve.write_text("#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status\n")
    serve.chmod(0o755)
    done = subprocess.run(
        ["bash", directory / "start.sh"],
        env={"PATH": "/usr/bin:/bin", "NPU_SERVING_SERVE": str(serve)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_start_script_pins_the_server_to_the_processors(tmp_path: Path) -> None:
    one = max(os.sched_getaffinity(0))
    assert started_by(tmp_path, {"cpus": one}) == (0, f"Cpus_allowed_list:\t{one}\n", "")


def test_the_start_script_pins_the_server_to_the_processors_of_the_node(tmp_path: Path) -> None:
    one = max(os.sched_getaffinity(0))
    (tmp_path / "cpulist").write_text(f"{one}\n")
    there = ("/sys/devices/system/node/node7/cpulist", f"{tmp_path}/cpulist")
    assert started_by(tmp_path, {"numa_node": 7}, there) == (0, f"Cpus_allowed_list:\t{one}\n", "")


def test_a_node_that_is_not_there_ends_the_start_with_what_to_look_at(tmp_path: Path) -> None:
    returncode, printed, said = started_by(tmp_path, {"numa_node": 1023})
    assert (returncode, printed) == (2, "")
    assert "can't be pinned to NUMA node 1023" in said
    assert "change cpu.numa_node" in said


def test_the_unit_has_the_processors_as_systemd_writes_them(tmp_path: Path) -> None:
    assert "\nCPUAffinity=0-7,16-23\n" in rendered(tmp_path, cpu={"cpus": "16-23,0-7"})["npu-serving.service"].text
    of_node = rendered(tmp_path, cpu={"numa_node": 1})["npu-serving.service"].text
    assert "\nCPUAffinity=numa\nNUMAPolicy=preferred\nNUMAMask=1\n" in of_node
    assert "CPUAffinity" not in rendered(tmp_path)["npu-serving.service"].text


# ---- environment


def test_the_environment_has_what_the_npu_and_the_cpu_section_need_and_what_is_stated_counts(tmp_path: Path) -> None:
    assert server_variables(deployment(tmp_path)) == {}
    made = deployment(tmp_path, npu={}, cpu={"omp_threads": 4, "allocator": "/lib/libjemalloc.so.2"})
    assert server_variables(made) == {
        "JOB_ID": "npu-serving",
        "LD_PRELOAD": "/lib/libjemalloc.so.2",
        "OMP_NUM_THREADS": "4",
        "TF_CPP_MIN_LOG_LEVEL": "0",
    }
    assert server_variables(deployment(tmp_path, npu={}, environment={"JOB_ID": 10087}))["JOB_ID"] == "10087"


@given(some.text(some.characters(exclude_categories=["Cs", "Cc"]), max_size=12).filter(lambda text: "\\" not in text))
@settings(max_examples=40)
def test_bash_reads_the_variables_back(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    if value != value.strip() or value[:1] in ("'", '"'):
        return
    directory = tmp_path_factory.mktemp("d")
    files = rendered(directory, environment={"VALUE": value})
    script = files["environment.sh"].text + "exec env -0"
    done = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    assert f"VALUE={value}" in done.stdout.decode().split("\0")
    assert f"VALUE={value}\n" in files["server.env"].text


def test_files_with_credentials_are_for_their_owner_only(tmp_path: Path) -> None:
    files = rendered(tmp_path, environment={"AWS_SECRET_ACCESS_KEY": "x"})
    assert {files[name].mode for name in ("environment.sh", "server.env")} == {0o600}
    assert rendered(tmp_path, environment={"OMP_NUM_THREADS": 1})["server.env"].mode == 0o644


# ---- scripts and the unit


def test_bash_and_shellcheck_find_nothing_in_the_scripts(tmp_path: Path) -> None:
    files = rendered(tmp_path, npu={}, cann="/usr/local/it's", environment={"A": "it's"})
    pinned = {f"start_{key}.sh": rendered(tmp_path, cpu={key: 1})["start.sh"] for key in ("cpus", "numa_node")}
    for name, file in {**{name: files[name] for name in ("start.sh", "environment.sh")}, **pinned}.items():
        path = tmp_path / name
        path.write_text(file.text)
        subprocess.run(["bash", "-n", path], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", "--shell=bash", path], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("cpu", [{}, {"cpus": "0-7,16"}, {"numa_node": 0}])
@pytest.mark.parametrize("place", ["/etc/npu-serving", '/srv/it\'s 100% "a" $b'])
def test_systemd_finds_nothing_in_the_unit(tmp_path: Path, place: str, cpu: dict[str, object]) -> None:
    made = deployment(tmp_path, server={"user": "root"}, cpu=cpu)
    directory = Path(place.replace('"', ""))
    unit = tmp_path / "npu-serving.service"
    unit.write_text(rendered_files(made, directory)[unit.name].text)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    about_it = [line for line in done.stderr.splitlines() if "npu-serving" in line]
    assert (done.returncode, about_it) == (0, [])


def test_a_directory_that_no_file_of_flags_can_name_is_refused(tmp_path: Path) -> None:
    for name in ("/a\nb", "/a'b\"c"):
        with pytest.raises(RequestError):
            rendered_files(deployment(tmp_path), Path(name))


# ---- all of them


def test_the_same_deployment_gives_the_same_bytes_and_each_file_says_where_it_comes_from(tmp_path: Path) -> None:
    sections = {"npu": {"b": 1, "a": 2}, "environment": {"Z": 1, "A": 2}, "server": {"monitoring": {}}}
    first, second = rendered(tmp_path, **sections), rendered(tmp_path, **sections)
    assert first == second
    assert [name for name in FILES if name in first] == list(first)
    for file in first.values():
        assert re.search(r"^# Written by \./inv render-deployment", file.text, re.MULTILINE)


def test_ten_thousand_models_are_written_and_read_back(tmp_path: Path) -> None:
    models = [{"name": f"m{number}", "base_path": f"/models/{number}"} for number in range(10_000)]
    assert len(models_of(rendered(tmp_path, models=models, npu={}))) == 10_000
