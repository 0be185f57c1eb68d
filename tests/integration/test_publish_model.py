"""publish-model beside a server that runs real SavedModels: labels, broken versions, one after the other, and back.

Each test has a model of its own in one server, whose deployment file they all change.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml
from serving_site import ServingSite
from tensorflow_server import PYTHON, SUPPORT, models_made

from npu_serving.client.errors import ClientError
from npu_serving.client.grpc_client import GrpcClient
from npu_serving.console import Silent
from npu_serving.errors import RequestError, ServerError
from npu_serving.model_checks.version_check import VersionCheck
from npu_serving.publishing import publish as publishing
from npu_serving.publishing.destination import Destination, destination
from npu_serving.publishing.publish import PublicationWish, plan_publication, publish
from npu_serving.publishing.taking_back import plan_taking_back, take_back
from npu_serving.settings import load_settings

pytestmark = pytest.mark.skipif(not PYTHON, reason="NPU_SERVING_TENSORFLOW_PYTHON names no Python with TensorFlow 1.15")

LABELLED = ("moved", "broken", "kept", "first", "labelled_back", "listed")
MODELS = (*LABELLED, "plain", "back", "silent", "by_hand", "trained")
ONE = {"x": numpy.array([1.0], numpy.float32)}


class PublishingSite(ServingSite):
    """One deployment of all models, each with version 1 (2.5 for 1), and a server of it."""

    @property
    def file(self) -> Path:
        return self.root / "deployment.yaml"

    def base(self, model: str) -> Path:
        return self.root / "models" / model

    def version(self, number: int) -> Path:
        """A version that is not published yet: 1 answers 2.5 for 1, and 2 answers 3.5."""
        return models_made() / "versions" / str(number)

    def listed(self, model: str) -> dict[str, object]:
        return next(each for each in yaml.safe_load(self.file.read_text())["models"] if each["name"] == model)

    def place(self, model: str) -> Destination:
        return destination(load_settings(self.settings), deployment=self.file, model=model)

    def publishes(self, model: str, number: int, **wish: Any) -> str:
        """As it is typed, in this process."""
        source = self.version(number)
        plan = plan_publication(source, str(source), self.place(model), PublicationWish(**wish))
        return publish(load_settings(self.settings), plan, Silent()).text()

    def goes_back(self, model: str, label: str = "") -> str:
        plan = plan_taking_back(self.place(model), label)
        return take_back(load_settings(self.settings), plan, Silent(), timeout_s=60).text()

    def due(self) -> object:
        return self.answers("status", wanted=3)["servers"][0]["due"]  # no CANN is here, so that something is to be done

    def answer(self, model: str, **spec: object) -> float:
        with GrpcClient(f"localhost:{self.port}") as client:
            return float(client.predict(model, ONE, **spec).outputs["y"][0])  # type: ignore[arg-type]

    @contextlib.contextmanager
    def asking(self, model: str, **spec: object) -> Iterator[list[object]]:
        """Requests one after the other while the block runs, one before it and one after it: all answers and errors."""
        answers: list[object] = []
        done, asked = threading.Event(), threading.Semaphore(0)

        def ask() -> None:
            with GrpcClient(f"localhost:{self.port}") as client:
                while not done.is_set():
                    try:
                        answers.append(float(client.predict(model, ONE, **spec).outputs["y"][0]))  # type: ignore[arg-type]
                    except ClientError as error:
                        answers.append(error)
                    asked.release()
                    done.wait(0.005)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            asked.acquire()
            yield answers
            while asked.acquire(blocking=False):  # those that were answered already
                pass
            for _ in range(2):  # of which the first may have been asked before
                asked.acquire()
        finally:
            done.set()
            thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublishingSite]:
    made = PublishingSite(tmp_path_factory.mktemp("publish") / "site")
    program = made.artifact / "bin" / "tensorflow_model_server"
    script = f'exec env -u PYTHONPATH TF_CPP_MIN_LOG_LEVEL=3 {PYTHON} {SUPPORT / "tensorflow_model_server.py"} "$@"\n'
    program.write_text(f"#!/bin/sh\n{script}")
    for model in MODELS:
        shutil.copytree(made.version(1), made.base(model) / "1")
    models = [
        {"name": name, "base_path": str(made.base(name)), **({"labels": {"stable": 1}} if name in LABELLED else {})}
        for name in MODELS
    ]
    server = {"port": made.port, "rest_api_port": made.rest_api_port}
    made.file.write_text("# by hand\n" + yaml.safe_dump({"version": 1, "models": models, "server": server}))
    made.types("serve", "--deployment", str(made.file), "--detach")
    yield made
    made.close()


def test_a_label_moves_when_its_version_answers_and_no_request_to_it_fails(site: PublishingSite) -> None:
    with site.asking("moved", label="stable") as by_label, site.asking("moved") as newest:
        flags = ["--deployment", str(site.file), "--model", "moved", "--label", "stable"]
        said = site.types("publish-model", str(site.version(2)), *flags)
    assert "It answers (zeros" in said
    assert set(by_label) == set(newest) == {2.5, 3.5}
    assert by_label == sorted(by_label), "the label moves once"  # type: ignore[type-var]
    assert site.listed("moved")["labels"] == {"stable": 2}
    assert site.file.read_text().startswith("# by hand\n")
    assert site.answer("moved", label="stable") == 3.5
    assert site.due() is None, "the file and the server say the same"


def test_a_version_that_the_server_can_not_load_is_taken_away_and_the_label_stays(
    site: PublishingSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = shutil.copytree(site.version(2), tmp_path / "broken")
    data = broken / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    before = site.file.read_text()
    monkeypatch.setattr(publishing, "check_version", lambda *_a, **_k: VersionCheck(None, ()))  # or it would be refused
    monkeypatch.setattr(site, "version", lambda _number: broken)
    refused = pytest.raises(ServerError, match="could not load version 2 of broken: ")
    with site.asking("broken", label="stable") as by_label, site.asking("broken") as newest, refused as caught:
        site.publishes("broken", 2, label="stable", timeout_s=60)
    assert "Version 2 was taken away again" in caught.value.what
    assert set(by_label) == set(newest) == {2.5}
    assert site.file.read_text() == before
    assert [path.name for path in site.base("broken").iterdir()] == ["1"]


def test_without_a_label_the_version_is_found_by_the_poll_and_waited_for(site: PublishingSite) -> None:
    before = site.file.read_text()
    url = f"http://localhost:{site.rest_api_port}"
    site.types("predict", "plain", "--request=[1.0]", "--save-golden=one", "--deployment", str(site.file), "--url", url)
    with site.asking("plain") as answers:
        said = site.publishes("plain", 2, wait=True)
    assert set(answers) == {2.5, 3.5}
    assert f"Server {site.rest_api_port} has loaded it" in said
    assert "its golden request is answered otherwise than recorded (one: predictions[0] is 3.5, not 2.5)" in said
    assert site.file.read_text() == before


def test_other_contents_under_a_served_number_are_refused_and_its_answers_stay(site: PublishingSite) -> None:
    with site.asking("kept") as answers:
        with pytest.raises(RequestError, match="has other contents") as caught:
            site.publishes("kept", 2, version=1)
        assert "--version 2" in caught.value.cure
        assert "nothing to do" in site.publishes("kept", 1, version=1)
    assert set(answers) == {2.5}


def test_where_memory_does_not_hold_both_the_former_version_is_unloaded_before(site: PublishingSite) -> None:
    with site.asking("first", label="stable") as answers:
        said = site.publishes("first", 2, unload_first=True)
    assert "nothing answered for first" in said
    values = [each for each in answers if isinstance(each, float)]
    assert values == sorted(values)
    assert set(values) == {2.5, 3.5}
    assert any(isinstance(each, ClientError) for each in answers)
    assert site.listed("first")["labels"] == {"stable": 2}


def test_one_command_has_the_former_version_answer_again(site: PublishingSite) -> None:
    site.publishes("back", 2, wait=True)
    flags = ["--deployment", str(site.file), "--model", "back"]
    planned = site.answers("publish-model", "--back", *flags, "--dry-run")
    assert (planned["version"], planned["taken_back"]) == (1, 2)
    with site.asking("back") as answers:
        said = site.goes_back("back")
    assert "Served is version 1 again, not 2." in said
    assert answers == sorted(answers, reverse=True)  # type: ignore[type-var]
    assert set(answers) == {2.5, 3.5}
    assert site.listed("back")["versions"] == [1]
    site.publishes("back", 2, version=3, wait=True)
    assert site.listed("back")["versions"] == [3]
    assert site.answer("back") == 3.5


def test_a_label_goes_back_by_one_command(site: PublishingSite) -> None:
    site.publishes("labelled_back", 2, label="stable")
    with site.asking("labelled_back", label="stable") as answers:
        site.goes_back("labelled_back", "stable")
    assert set(answers) == {2.5, 3.5}
    assert site.listed("labelled_back")["labels"] == {"stable": 1}
    assert site.answer("labelled_back", label="stable") == 2.5


def test_new_weights_from_a_training_answer_as_the_next_version(site: PublishingSite, tmp_path: Path) -> None:
    numpy.savez(tmp_path / "w.npz", **{"half:0": numpy.float32(0.25)})  # type: ignore[arg-type]
    flags = ["--deployment", str(site.file), "--model", "trained", "--weights", str(tmp_path / "w.npz"), "--wait"]
    done = site.answers("publish-model", *flags)
    assert (done["version"], done["weights"]["replaced"]) == (2, ["half"])
    assert site.answer("trained") == 2.25


def test_two_who_publish_at_the_same_time_both_stay_in_the_list(site: PublishingSite) -> None:
    words = ["publish-model", str(site.version(2)), "--deployment", str(site.file), "--label", "stable"]
    with site.asking("listed", label="stable") as answers, site.asking("silent") as others:
        both = [site.begins(*words, "--model", model) for model in ("listed", "silent")]
        said = [each.communicate()[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert set(answers) == set(others) == {2.5, 3.5}
    assert site.listed("listed")["labels"] == site.listed("silent")["labels"] == {"stable": 2}
    for model in ("listed", "silent"):
        assert site.answer(model, label="stable") == 3.5


def test_files_replaced_by_hand_are_told_until_a_restart_after_which_labels_answer_again(site: PublishingSite) -> None:
    before = {model: site.answer(model, label="stable") for model in LABELLED}
    path = site.base("by_hand") / "1"
    shutil.copytree(site.version(2), path, dirs_exist_ok=True)
    (changed,) = site.answers("status", wanted=3)["servers"][0]["changes"]
    assert (changed["what"], changed["due"]) == ("models.by_hand, files of version 1", "restart")
    assert site.answer("by_hand") == 2.5
    site.types("restart", str(site.rest_api_port))
    assert site.due() is None
    assert site.answer("by_hand") == 3.5
    assert {model: site.answer(model, label="stable") for model in LABELLED} == before
