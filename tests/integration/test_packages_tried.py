"""Packages of the sample, tried: the Debian package with the real dpkg, the image by running it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_support import BASE_IMAGE, require_engine

from npu_serving.building.pipeline import BuildResult
from npu_serving.console import Silent
from npu_serving.images.docker_engine import ROLE, connected
from npu_serving.packaging.package import PackageResult, package
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.settings import Settings

pytestmark = [pytest.mark.bazel, pytest.mark.docker]
SECOND_NS = 10**9


@pytest.fixture(autouse=True)
def _engine() -> None:
    require_engine()


@pytest.fixture(scope="module")
def settings(sample_settings: Settings) -> Settings:
    return dataclasses.replace(sample_settings, docker_base_image=BASE_IMAGE)


@pytest.fixture(scope="module")
def image(settings: Settings, built: BuildResult) -> Iterator[PackageResult]:
    require_engine()
    made = package(settings, Silent(), kind="image")
    yield made
    with connected() as client:
        client.images.remove(made.plan.target, force=True)


@contextlib.contextmanager
def container(image: str, settings: Settings, *flags: str, **options: Any) -> Iterator[Any]:
    """The image, run as the documentation says: read-only, without capabilities, CANN and models mounted."""
    cann = str(settings.build_root / "sample" / "Ascend")
    mounts = {
        **({cann: cann} if options.pop("with_cann", True) else {}),
        str(SAMPLE_DIRECTORY / "models"): "/models",
        str(SAMPLE_DIRECTORY / "config.cfg"): "/etc/npu-serving/config.cfg",
        **options.pop("mounts", {}),
    }
    with connected() as client:
        made = client.containers.create(
            image,
            list(flags),
            environment={"ASCEND_ROOT": cann},
            volumes={source: {"bind": target, "mode": "ro"} for source, target in mounts.items()},
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            labels={ROLE: "test"},
            healthcheck={
                "test": client.images.get(image).attrs["Config"]["Healthcheck"]["Test"],
                "interval": SECOND_NS,
                "timeout": 10 * SECOND_NS,
                "start_period": SECOND_NS,
                "retries": 2,
            },
            **options,
        )
        try:
            made.start()
            yield made
        finally:
            made.remove(force=True)


def health(made: Any, *wanted: str) -> tuple[str, str]:
    """The health that the engine comes to, and what the check said last."""
    deadline = time.monotonic() + 120
    while True:
        made.reload()
        state = made.attrs["State"]["Health"]
        said = state["Log"][-1]["Output"] if state["Log"] else ""
        if state["Status"] in wanted:
            return str(state["Status"]), str(said)
        assert time.monotonic() < deadline, (state, made.logs().decode())
        time.sleep(0.2)


def server_of(made: Any) -> int:
    """The process of the server, which process 1 of the container has started."""
    listed = made.top(ps_args="-o pid,args")["Processes"]
    (found,) = [int(pid) for pid, words in listed if "/bash " not in words and "tensorflow_model_server" in words]
    return found


def stopped(made: Any, number: signal.Signals) -> int:
    """The container's exit code after a signal to its process 1."""
    made.kill(signal=number.name)
    return int(made.wait(timeout=60)["StatusCode"])


def run(image: str, *argv: str, **options: Any) -> str:
    with connected() as client:
        said = client.containers.run(
            image,
            list(argv[1:]),
            entrypoint=argv[0],
            remove=True,
            network_mode="none",
            labels={ROLE: "test"},
            **options,
        )
        return bytes(said).decode()


def test_the_image_serves_the_sample_and_tells_that_it_is_healthy(image: PackageResult, settings: Settings) -> None:
    flags = ("--rest_api_port=8501", "--model_name=half_plus_two", "--model_base_path=/models/half_plus_two")
    with container(image.plan.target, settings, *flags, "--platform_config_file=/etc/npu-serving/config.cfg") as made:
        assert health(made, "healthy", "unhealthy") == ("healthy", "loaded: half_plus_two\n")
        request = json.dumps({"instances": [1.0, 2.0]})
        ask = (
            "exec 3<>/dev/tcp/127.0.0.1/8501; printf 'POST /v1/models/half_plus_two:predict HTTP/1.1\\r\\nHost: x\\r\\n"
            f"Connection: close\\r\\nContent-Length: {len(request)}\\r\\n\\r\\n%s' '{request}' >&3; timeout 5 cat <&3"
        )
        answer = made.exec_run(["bash", "-c", ask]).output.decode()
        assert "predictions" in answer
        assert "placed on NPU" in made.logs().decode()


def test_a_model_that_can_not_be_loaded_makes_it_unhealthy(
    image: PackageResult, settings: Settings, tmp_path: Path
) -> None:
    bad = tmp_path / "1"
    bad.mkdir()
    (bad / "saved_model.pb").write_bytes(b"no model")
    tmp_path.chmod(0o755)
    flags = ("--rest_api_port=8501", "--model_name=m", "--model_base_path=/bad", "--max_num_load_retries=0")
    with container(image.plan.target, settings, *flags, mounts={str(tmp_path): "/bad"}) as made:
        assert health(made, "healthy", "unhealthy")[0] == "unhealthy"


def test_a_server_that_stops_answering_becomes_unhealthy(image: PackageResult, settings: Settings) -> None:
    flags = ("--rest_api_port=8501", "--model_name=half_plus_two", "--model_base_path=/models/half_plus_two")
    with container(image.plan.target, settings, *flags) as made:
        assert health(made, "healthy", "unhealthy")[0] == "healthy"
        try:
            os.kill(server_of(made), signal.SIGSTOP)
        except PermissionError:
            pytest.skip("only root can stop a process of the container")
        said = "unhealthy: half_plus_two is not available: no answer within 5 seconds\n"
        assert health(made, "unhealthy") == ("unhealthy", said)


FLAGS = ("--rest_api_port=8501", "--model_name=half_plus_two", "--model_base_path=/models/half_plus_two")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_the_server_gets_the_signals_of_process_1_which_ends_with_its_code(
    number: signal.Signals, image: PackageResult, settings: Settings
) -> None:
    with container(image.plan.target, settings, *FLAGS) as made:
        assert health(made, "healthy", "unhealthy")[0] == "healthy"
        assert stopped(made, number) == 128 + number


def test_as_process_1_itself_the_server_would_not_end(image: PackageResult, settings: Settings) -> None:
    program = "/opt/npu-serving/bin/tensorflow_model_server"
    with container(image.plan.target, settings, "-c", f". $ASCEND_ROOT/*/set_env.sh; exec {program} {' '.join(FLAGS)}",
                   entrypoint="bash") as made:  # fmt: skip
        assert health(made, "healthy", "unhealthy")[0] == "healthy"
        made.stop(timeout=1)
        assert made.wait(timeout=60)["StatusCode"] == 128 + signal.SIGKILL


def test_docker_stop_needs_not_to_kill(image: PackageResult, settings: Settings) -> None:
    with container(image.plan.target, settings, *FLAGS, tty=True) as made:
        assert health(made, "healthy", "unhealthy")[0] == "healthy"
        made.stop(timeout=60)
        assert made.wait(timeout=60)["StatusCode"] == 128 + signal.SIGTERM


def test_what_others_leave_behind_in_the_container_is_reaped(image: PackageResult, settings: Settings) -> None:
    with container(image.plan.target, settings, *FLAGS) as made:
        assert health(made, "healthy", "unhealthy")[0] == "healthy"
        for _ in range(5):
            made.exec_run(["bash", "-c", "(sleep 0 &)"])
        deadline = time.monotonic() + 60
        while " Z " in (states := made.exec_run(["bash", "-c", "cat /proc/[0-9]*/stat"]).output.decode()):
            assert time.monotonic() < deadline, states
            time.sleep(0.1)
        os.kill(server_of(made), signal.SIGSTOP)  # a server that is stopped for a while is not taken for ended
        os.kill(server_of(made), signal.SIGCONT)
        made.reload()
        assert made.status == "running"


def test_without_cann_the_container_ends_with_what_to_mount(image: PackageResult, settings: Settings) -> None:
    root = settings.build_root / "sample" / "Ascend"
    with container(image.plan.target, settings, *FLAGS, with_cann=False) as made:
        assert made.wait(timeout=60)["StatusCode"] == 127
        said = made.logs().decode()
    assert f"there is no {root}" in said
    assert f"-v {root}:{root}:ro" in said  # the mount that container() makes in all other tests
    assert "--device /dev/davinci0" in said
    assert "error while loading shared libraries" not in said


def test_flags_with_the_line_ends_of_windows_and_comments_serve(
    image: PackageResult, settings: Settings, tmp_path: Path
) -> None:
    flags = tmp_path / "flags"
    flags.write_bytes("\r\n".join(["# the model", *FLAGS[:2], FLAGS[2] + "  # and where it is"]).encode())
    mounts = {str(flags): "/etc/npu-serving/flags"}
    with container(image.plan.target, settings, mounts=mounts) as made:
        assert health(made, "healthy", "unhealthy") == ("healthy", "loaded: half_plus_two\n")
    flags.write_text("--rest_api_port 8501\n")
    with container(image.plan.target, settings, mounts=mounts) as made:
        assert made.wait(timeout=60)["StatusCode"] == 2
        assert "put = between them: --rest_api_port=8501" in made.logs().decode()


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("# config { name: 'x' }\n", "loaded: half_plus_two\n"),
        (
            " config { name: 'other' model_platform: 'tensorflow' base_path: '/models/half_plus_two' }",
            "loaded: half_plus_two other\n",
        ),
    ],
)
def test_the_list_of_models_is_read_as_the_server_reads_it(
    second: str, said: str, image: PackageResult, settings: Settings, tmp_path: Path
) -> None:
    models = tmp_path / "models.config"
    models.write_text(
        "model_config_list: { config { name: 'half_plus_two', base_path: '/models/half_plus_two', "
        f"model_platform: 'tensorflow' }} {second} }}"
    )
    with container(image.plan.target, settings, mounts={str(models): "/etc/npu-serving/models.config"}) as made:
        assert health(made, "healthy", "unhealthy") == ("healthy", said)


def test_without_arguments_a_deployments_files_count(image: PackageResult, settings: Settings, tmp_path: Path) -> None:
    models = tmp_path / "models.config"
    models.write_text(
        'model_config_list { config { name: "half_plus_two" base_path: "/models/half_plus_two" '
        'model_platform: "tensorflow" } }\n'
    )
    with container(image.plan.target, settings, mounts={str(models): "/etc/npu-serving/models.config"}) as made:
        assert health(made, "healthy", "unhealthy") == ("healthy", "loaded: half_plus_two\n")


def test_the_image_is_the_base_and_the_artifact_with_nothing_of_the_toolchain(
    image: PackageResult, built: BuildResult
) -> None:
    with connected() as client:
        base = client.images.get(BASE_IMAGE).attrs["Size"]
        made = client.images.get(image.plan.target)
    assert made.attrs["Size"] - base - built.build.size_bytes < 5_000_000
    assert made.attrs["Config"]["User"] == "65532:65532"
    assert made.labels["org.opencontainers.image.version"] == built.build.manifest.build_id
    assert made.labels[ROLE] == "runtime"
    found = run(image.plan.target, "sh", "-c", "id -u; command -v gcc g++ bazel python3 ld; true")
    assert found.split() == ["65532"]


def test_the_stub_libraries_are_visible_to_the_server_only(image: PackageResult) -> None:
    code = "ldconfig -p; echo LD_LIBRARY_PATH=$LD_LIBRARY_PATH; grep -rs npu-serving /etc/ld.so.conf* ; true"
    seen = run(image.plan.target, "sh", "-c", code)
    assert "tensorflow" not in seen
    assert "npu-serving" not in seen
    traced = run(
        image.plan.target, "sh", "-c", "LD_TRACE_LOADED_OBJECTS=1 /opt/npu-serving/bin/tensorflow_model_server"
    )
    (stub,) = [line for line in traced.splitlines() if "libtensorflow_framework.so.1 =>" in line]
    assert "/opt/npu-serving/bin/../lib/" in stub


def test_a_second_image_of_the_same_build_is_the_first(image: PackageResult, settings: Settings) -> None:
    again = package(settings, Silent(), kind="image")
    assert not again.made
    assert again.digest == image.digest


def test_the_debian_package_installs_verifies_and_leaves_nothing_behind(
    settings: Settings, built: BuildResult, tmp_path: Path
) -> None:
    made = Path(package(settings, Silent(), kind="deb", output=tmp_path).plan.target)
    listed = "find /opt /usr /etc /bin /lib -xdev 2>/dev/null | sort"
    script = (
        f"{listed} > /tmp/before; dpkg -i /deb/{made.name} >&2 || exit 1; dpkg --verify npu-serving;"
        "ls -l /opt/npu-serving/bin/tensorflow_model_server | cut -c1-10;"
        f"dpkg -P npu-serving >&2; mkdir -p /opt; {listed} | diff /tmp/before - && echo gone"
    )
    volumes = {str(tmp_path): {"bind": "/deb", "mode": "ro"}}
    said = run(BASE_IMAGE, "sh", "-c", script, volumes=volumes)
    assert said.split() == ["-rwxr-xr-x", "gone"]
