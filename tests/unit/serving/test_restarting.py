"""restart: planned before the stop, with what the server was started with, by the file as it is now; and logs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from model_server import record
from serving_site import ServingSite

from npu_serving.serving.server_record import RecordKeeper, ServerRecord


def is_ready(record: ServerRecord) -> bool:
    return record.is_running and record.readiness is not None and record.readiness.ready


@pytest.fixture
def deployed(site: ServingSite) -> Path:
    """A deployment file, whose server is ready."""
    file = site.root / "deployment.yaml"
    ports = f"server: {{port: {site.port}, rest_api_port: {site.rest_api_port}}}"
    file.write_text(f"version: 1\nmodels: [{{name: m, base_path: {site.model}}}]\n{ports}\n")
    said = site.types("serve", "--deployment=deployment.yaml", "--detach")
    assert f"Next: ./inv logs {site.rest_api_port}   (./inv stop {site.rest_api_port} ends it)" in said
    return file


def test_it_is_started_with_what_it_was_started_with_and_another_build_is_named(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach", "--flag=--file_system_poll_wait_seconds=7"))
    before = site.until(is_ready)
    site.put_build("serving-b")
    dry = site.answers("restart", "--dry-run")
    assert (dry["changes"], dry["stopped"]) == (["build serving-a becomes serving-b"], None)
    assert site.until(is_ready) == before, "a dry run changes nothing"
    done = site.answers("restart", str(site.rest_api_port))
    after = site.until(is_ready)
    assert (done["stopped"]["pid"], done["started"]["pid"]) == (before.pid, after.pid)
    assert done["started"]["ready"]
    assert (after.build, after.argv[1:]) == ("serving-b", before.argv[1:])
    assert "--file_system_poll_wait_seconds=7" in after.argv


def test_what_the_start_would_refuse_is_refused_before_the_stop(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach"))
    before = site.until(is_ready)
    (site.model / "1" / "saved_model.pb").unlink()
    for words in ([], ["--dry-run"]):
        said = site.types("restart", *words, wanted=2)
        assert "saved_model.pb" in said
    assert site.until(is_ready) == before


def test_where_the_log_could_not_be_written_nothing_is_stopped(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach"))
    before = site.until(is_ready)
    assert before.log is not None
    before.log.unlink()
    before.log.mkdir()
    assert "remove it: rm -r " in site.types("restart", wanted=2)
    assert site.until(is_ready) == before


def test_a_change_of_the_deployment_file_is_named_and_taken_and_a_mistake_in_it_stops_nothing(
    site: ServingSite, deployed: Path
) -> None:
    before = site.until(is_ready)
    text = deployed.read_text()
    deployed.write_text(text + "surprise: 1\n")
    assert "surprise" in site.types("restart", "--deployment=deployment.yaml", wanted=2)
    assert site.until(is_ready) == before
    deployed.write_text(text.replace("rest_api_port", "file_system_poll_wait_seconds: 9, rest_api_port"))
    said = site.types("restart", "--deployment=deployment.yaml")
    assert f"change: {deployed} was changed since it was started" in said
    assert "--file_system_poll_wait_seconds=9" in site.until(is_ready).argv
    assert "was changed" not in site.types("restart", "--dry-run")


def test_one_that_has_ended_is_started_again_in_its_directory(site: ServingSite, deployed: Path) -> None:
    before = site.until(is_ready)
    site.types("stop", "--deployment=deployment.yaml")
    assert "would be started:" in site.types("restart", "--dry-run")
    site.types("restart", "m", wanted=3)  # by a model's name only a server that runs is meant
    said = site.types("restart")
    assert "was stopped" not in said
    assert site.until(is_ready).directory == before.directory
    assert before.directory.name == "run"


def test_one_of_the_foreground_runs_in_the_background_afterwards_and_that_is_said(site: ServingSite) -> None:
    task = site.begins(*site.of_flags())
    site.until(is_ready)
    assert "is not kept" in site.types("logs", wanted=2)
    assert "change: it ran in the foreground, and will run in the background" in site.types("restart", "--dry-run")
    site.types("restart")
    task.communicate()
    assert task.returncode == -signal.SIGTERM
    assert site.until(is_ready).log is not None


def test_a_start_that_fails_after_the_stop_says_that_the_server_is_gone(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach"))
    site.until(is_ready)
    site.behaves({}, before="sys.exit(3)")
    said = site.types("restart", wanted=1)
    assert (
        f"Server {site.rest_api_port} was stopped, and then did not start.\nThe server has ended: exit status 3" in said
    )


def test_a_server_of_an_earlier_version_is_not_stopped_without_knowing_how_to_start_it(site: ServingSite) -> None:
    RecordKeeper(site.build_root, record(site.rest_api_port, watcher=0)).began(os.getpid())
    said = site.types("restart", wanted=2)
    assert "is not known" in said
    assert "./inv stop" in said


def test_logs_shows_the_last_lines_and_follows_until_the_server_has_ended(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach"))
    site.until(is_ready)
    assert site.types("logs", "--lines=1").startswith("npu-serving: ready after")
    assert len(site.answers("logs", "--lines=2")["lines"]) == 2
    follows = site.begins("logs", str(site.port), "-f", "--lines=1")
    assert follows.stdout is not None
    assert follows.stdout.readline().startswith("npu-serving: ready after")
    site.types("stop")
    follows.communicate()
    assert follows.returncode == 0
    assert "npu-serving: ready after" in site.types("logs"), "also of one that has ended"
    assert "--lines can't be 1000001" in site.types("logs", "--lines=1000001", wanted=2)


def test_where_the_new_one_could_not_be_kept_the_old_one_is_not_stopped(site: ServingSite) -> None:
    site.types(*site.of_flags("--detach"))
    before = site.server().record
    (site.build_root / "servers" / ".space").mkdir()  # stands for a full disk
    assert "could not be written" in site.types("restart", wanted=1)
    assert site.server().is_running
    assert site.server().record == before
