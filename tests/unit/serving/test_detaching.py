"""serve --detach: a server that outlives whoever typed it, that is waited for, and that never becomes invisible."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Callable

import pytest
from model_server import go
from serving_site import ServingSite

from npu_serving.errors import ServerError
from npu_serving.serving.detaching import _Teller
from npu_serving.serving.server_record import ServerRecord

IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def is_ready(record: ServerRecord) -> bool:
    return record.is_running and record.readiness is not None and record.readiness.ready


def test_it_returns_when_the_server_is_ready_which_outlives_the_terminal(site: ServingSite) -> None:
    said = site.types(*site.of_flags("--detach"))
    record = site.server().record
    assert record is not None
    assert "npu-serving: ready after" in said
    assert "answered: m (zeros)" in said
    assert f"Server {site.rest_api_port} is ready after" in said
    assert f"process {record.pid}, REST port {site.rest_api_port}, gRPC port {site.port}" in said
    assert f"Next: ./inv logs {site.rest_api_port}" in said
    assert is_ready(record)
    assert record.is_watched
    for pid in (record.pid, record.watcher):
        assert os.getsid(pid) not in (os.getsid(0), 0)
        assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
    (child,) = Path(f"/proc/{record.watcher}/task/{record.watcher}/children").read_text().split()
    assert int(child) == record.pid
    assert record.log is not None
    assert "npu-serving: ready after" in record.log.read_text()


def test_a_second_one_of_the_same_ports_or_deployment_hears_what_runs_there(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach"))
    record = site.server().record
    assert record is not None
    for words in ([*site.of_flags("--detach")], [*site.of_flags()], [*site.of_flags("--dry-run")]):
        said = site.types(*words, wanted=1)
        assert f"of a server of ./inv serve that runs: process {record.pid}, build serving-a, since" in said
        assert f"./inv restart {site.rest_api_port}" in said
    assert site.server().record == site.until(is_ready), "nothing has become of the first one"


def test_of_two_that_are_typed_at_once_one_runs_and_the_other_hears_of_it(site: ServingSite) -> None:
    site.behaves({}, before="import time; time.sleep(2)")  # no port is open meanwhile, by which it could be seen
    both = [site.begins(*site.of_flags("--detach", "--no-wait")) for _ in range(2)]
    outputs = {task.communicate()[0]: task.returncode for task in both}
    assert sorted(outputs.values()) == [0, 1]
    refused = next(output for output, code in outputs.items() if code == 1)
    assert "of a server of ./inv serve that runs: process" in refused
    site.until(is_ready)


def test_a_failure_is_that_of_the_foreground_with_the_output_of_this_start_only(site: ServingSite) -> None:
    site.behaves({}, before="print('first', file=sys.stderr); sys.exit(3)")
    site.types(*site.of_flags("--detach"), wanted=1)
    site.behaves({}, before="print('dying of shame', file=sys.stderr); os.abort()")
    said = site.types(*site.of_flags("--detach"), wanted=1)
    assert "The server has ended: killed by SIGABRT (6)." in said
    assert "    dying of shame\n" in said
    assert "first" not in said
    assert "server.log" in said
    assert "Next: " in said
    end = site.server().end
    assert end is not None
    assert "killed by SIGABRT" in end.what
    document = site.answers(*site.of_flags("--detach"), wanted=1)
    assert (document["error"], document["exit_code"]) == ("ServerError", 1)


def test_one_that_is_not_ready_in_time_is_ended_and_the_reason_comes_back(site: ServingSite) -> None:
    site.behaves({"states": ["LOADING"]})
    said = site.types(*site.of_flags("--detach", "--ready-timeout=1"), wanted=1)
    assert "was not ready within 1.0 s (--ready-timeout), so it was ended: m: version 1: LOADING" in said
    assert not site.server().is_running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_who_stops_waiting_does_not_stop_the_server(site: ServingSite, number: signal.Signals) -> None:
    site.behaves({"answer": "wait"})
    task = site.begins(*site.of_flags("--detach"))
    record = site.until(lambda record: record.is_running and record.readiness is not None)
    task.send_signal(number)
    said, _ = task.communicate()
    if number != signal.SIGKILL:
        assert task.returncode == 130
        assert "Interrupted; it is not stopped by that." in said
        assert f"./inv stop {site.rest_api_port}" in said
    go(site.artifact).touch()
    assert site.until(is_ready).pid == record.pid


def test_without_waiting_it_returns_when_the_server_is_started(site: ServingSite) -> None:
    site.behaves({"answer": "wait"})
    document = site.answers(*site.of_flags("--detach", "--no-wait"))
    assert (document["ready"], document["name"]) == (False, str(site.rest_api_port))
    assert site.until(lambda record: record.is_running).pid == document["pid"]
    assert "--no-wait is for a server in the background" in site.types("serve", "--no-wait", wanted=2)


def test_a_server_whose_watcher_was_killed_is_still_seen_and_can_be_stopped(site: ServingSite) -> None:
    site.behaves({}, before=IGNORES_SIGTERM)  # or it would end with its watcher
    site.types(*site.of_flags("--detach"))
    record = site.until(is_ready)
    os.kill(record.watcher, signal.SIGKILL)
    site.until(lambda record: not record.is_watched)
    assert "the ./inv serve that watched it is gone" in site.types("status", wanted=3)
    assert "by SIGKILL, since it did not heed SIGTERM" in site.types("stop", "--timeout=1")
    assert not site.server().is_running


def test_a_server_that_heeds_sigterm_ends_with_its_watcher_and_how_is_known(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach"))
    os.kill(site.until(is_ready).watcher, signal.SIGKILL)
    site.until(lambda record: not record.is_running)
    end = site.server().end
    assert end is not None
    assert "the ./inv serve that ran it as well" in end.what
    assert f"./inv restart {site.rest_api_port}" in end.cure


def test_it_runs_in_a_directory_of_its_own_and_relative_paths_mean_the_callers(site: ServingSite) -> None:
    (site.root / "monitoring.config").write_text("prometheus_config { enable: true }\n")
    flags = ["--flag=--monitoring_config_file=monitoring.config", f"--port={site.port}"]
    ports = [*flags, f"--rest-api-port={site.rest_api_port}"]
    site.types("serve", "--model-base-path=models/m", *ports, "--detach")
    record = site.until(is_ready)
    assert os.readlink(f"/proc/{record.pid}/cwd") == str(record.directory)
    assert record.directory == site.build_root / "deployments" / f"by-flags-{site.rest_api_port}" / "run"
    assert f"--monitoring_config_file={site.root}/monitoring.config" in record.argv
    assert f"--model_base_path={site.model}" in record.argv
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    site.types("restart", at=elsewhere)
    again = site.until(is_ready)
    assert (again.argv, again.pid == record.pid) == (record.argv, False)


def test_what_the_adapter_has_left_to_the_cpu_is_read_there_after_the_stop(site: ServingSite) -> None:
    report = json.dumps({"op": [{"name": "a", "type": "Where", "is_support": False}]})
    site.behaves({}, before=f"open('check_result.tf.json', 'w').write({report!r})")
    site.types(*site.of_flags("--detach"))
    record = site.until(is_ready)
    site.types("stop")
    assert record.log is not None
    assert "left 1 nodes to the CPU: Where (1)" in record.log.read_text()


def test_a_reader_that_was_suspended_holds_up_no_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ours, its_own = os.pipe()
    teller = _Teller(its_own)
    for _ in range(100):
        teller.note("x" * 4000)  # more than a pipe holds
    teller.ended(ServerError("It broke.", cure="y"))
    assert capfd.readouterr().err.count("x" * 4000) == 100, "the log has all of it"
    while os.read(ours, 1 << 16):
        pass
    os.close(ours)


def test_who_reads_no_more_is_not_written_to(tmp_path: Path) -> None:
    ours, its_own = os.pipe()
    teller = _Teller(its_own)
    os.close(ours)
    teller.note("nobody reads this")
    teller.looked(True, [])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(its_own)


def test_a_shell_that_captures_the_output_is_not_held_by_the_server(site: ServingSite) -> None:
    words = site.argv(*site.of_flags("--detach"))
    done = subprocess.run(
        ["bash", "-c", 'exec 7> "$0"; said=$("$@" 2>&1); echo "$said"', str(site.root / "open"), *words],
        cwd=site.root,
        env=site.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is ready after" in done.stdout
    record = site.until(is_ready)
    opened = [os.readlink(link) for link in Path(f"/proc/{record.watcher}/fd").iterdir() if link.is_symlink()]
    assert str(site.root / "open") not in opened


def test_one_that_could_not_be_stopped_since_nothing_is_kept_is_not_started(site: ServingSite) -> None:
    site.build_root.mkdir(exist_ok=True)
    (site.build_root / "servers").write_text("a file")
    site.types(*site.of_flags("--detach"), wanted=1)
    assert not list(site.build_root.glob("deployments/*/server.log"))


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a device or a pipe"), (os.mkdir, "a directory")])
def test_what_is_in_the_logs_place_is_refused_and_not_waited_for_until_it_is_removed(
    site: ServingSite, make: Callable[[Path], None], kind: str
) -> None:
    site.types(*site.of_flags("--detach"))
    log = next(site.build_root.glob("deployments/*/server.log"))
    site.types("stop")
    log.unlink()
    make(log)
    for words in (site.of_flags("--detach"), ["logs"], ["logs", "--follow"]):
        said = site.types(*words, wanted=2)
        assert f"{log} is {kind}, so" in said
        cure = said.rpartition("Next: remove it: ")[2]
        assert cure.startswith("rm -r ")
    assert not site.server().is_running
    subprocess.run(["bash", "-c", cure], check=True)
    site.types(*site.of_flags("--detach"))
    assert site.server().is_running
