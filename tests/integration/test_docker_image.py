"""The toolchain image, made by a real engine: once, whole, and with a clear word when it can't be."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_support import BASE_IMAGE, missing, real_bazel, require_engine, settings_in

from npu_serving.console import Silent
from npu_serving.errors import FetchError, NpuServingError, ProgramError
from npu_serving.images.build_context import ImageContext
from npu_serving.images.build_steps import make_layer
from npu_serving.images.docker_engine import ROLE, connected, engine_facts
from npu_serving.images.layer import differences
from npu_serving.images.toolchain_image import REPOSITORY, ImagePlan, build_image, plan_image, reproduce_image
from npu_serving.settings import PROJECT_ROOT

pytestmark = pytest.mark.docker

TEST_REPOSITORY = "npu-serving-test"


@pytest.fixture(autouse=True)
def _engine() -> None:
    require_engine()


@pytest.fixture
def base() -> Iterator[str]:
    """The base image under a name of this test's own, so that the toolchain image is its own as well."""
    tag = uuid.uuid4().hex[:12]
    with connected() as client:
        client.images.get(BASE_IMAGE).tag(TEST_REPOSITORY, tag)
        yield f"{TEST_REPOSITORY}:{tag}"
        client.images.remove(f"{TEST_REPOSITORY}:{tag}", force=True)


def planned(directory: Path, base: str, **changes: object) -> ImagePlan:
    return plan_image(settings_in(directory, docker_base_image=base, **changes), real_bazel().path)


def toolchain_tags() -> set[str]:
    with connected() as client:
        return {tag for image in client.images.list(REPOSITORY) for tag in image.tags}


def test_the_image_is_made_with_the_same_layers_each_time_and_then_found(tmp_path: Path, base: str) -> None:
    settings = settings_in(tmp_path, docker_base_image=base)
    first = planned(tmp_path, base)
    assert first.steps
    before = unnamed_images()  # the same layer may be there from a run that was killed: it is the same bytes each time
    report = reproduce_image(first, settings, Silent())
    made = report.image
    try:
        assert report.differences == ()
        assert (report.same, report.exit_code, len(made.layers)) == (True, 0, 1)
        assert made.built
        assert set(made.identity) == {"compiler", "glibc", "machine", "python", "bazel"}
        assert made.identity["bazel"].startswith("0.24.1 sha256:")
        assert any(package.startswith("automake=") for package in made.packages)
        assert "Step 1/" in (settings.logs / "build-image.log").read_text()
        second = planned(tmp_path, base)
        assert second.steps == ()
        again = build_image(second, settings, Silent())
        assert (again.built, again.tag, again.image_id) == (False, made.tag, made.image_id)
        assert (again.identity, again.packages, again.layers) == (made.identity, made.packages, made.layers)
        left = {image: layers for image, layers in unnamed_images().items() if image not in before}
        assert [image for image, layers in left.items() if made.layers[0] in layers] == []
    finally:
        with connected() as client:
            client.images.remove(made.tag, force=True)


def unnamed_images() -> dict[str, list[str]]:
    """The layers of each image of this project that has no name, by its id."""
    with connected() as client:
        images = client.images.list(filters={"dangling": True, "label": f"{ROLE}=toolchain"})
        return {str(image.id): image.attrs["RootFS"].get("Layers") or [] for image in images}


def test_what_differs_between_two_images_is_shown_file_by_file(tmp_path: Path, base: str) -> None:
    careless = f"FROM {base}\nRUN date +%N > /etc/made-at; touch /opt/$(date +%N); date +%N > /opt/log; rm -r /srv\n"
    context = ImageContext("distro", careless, ())
    with connected() as client:
        made = [make_layer(client, context, tmp_path / "log", Silent(), no_cache=True) for _ in range(2)]
        for image in made:
            client.images.remove(image.image_id)
    told = {item.path: item.what for item in differences(made[0].entries, made[1].entries)}
    assert "sha256" in told.pop("etc/made-at")
    assert "sha256" in told.pop("opt/log")
    assert sorted(told.values()) == ["only in the first", "only in the second"]
    assert all(path.startswith("opt/") for path in told)


def test_an_image_under_the_right_tag_that_is_not_ours_is_made_again(tmp_path: Path, base: str) -> None:
    plan = planned(tmp_path, base)
    with connected() as client:
        client.images.get(base).tag(REPOSITORY, plan.tag.partition(":")[2])
        try:
            assert planned(tmp_path, base).steps
        finally:
            client.images.remove(plan.tag)


def test_a_package_archive_that_is_out_of_reach_is_answered_with_the_proxy_and_leaves_no_tag(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    plan = planned(tmp_path, base)
    with pytest.raises(ProgramError) as caught:
        build_image(plan, settings_in(tmp_path, docker_base_image=base), Silent(), no_cache=True)
    assert "http_proxy" in caught.value.cure
    assert str(tmp_path / "build" / "logs" / "build-image.log") in caught.value.what
    assert plan.tag not in toolchain_tags()


def test_a_base_image_that_is_no_linux_distribution_is_answered_with_another_base(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    base = f"{TEST_REPOSITORY}:{uuid.uuid4().hex[:12]}"
    with connected() as client:
        client.api.import_image_from_data(content.getvalue(), *base.split(":"))
        try:
            plan = planned(tmp_path, base)
            with pytest.raises(ProgramError) as caught:
                build_image(plan, settings_in(tmp_path, docker_base_image=base), Silent())
        finally:
            client.images.remove(base, force=True)
    assert "--base-image" in caught.value.cure
    assert plan.tag not in toolchain_tags()


def test_a_base_image_that_can_not_be_pulled_is_answered_with_base_image(tmp_path: Path) -> None:
    base = "127.0.0.1:9/nowhere:1"
    plan = planned(tmp_path, base)
    assert (plan.base_id, plan.tag) == ("", "")
    assert plan.steps[0] == f"pull the base image {base}"
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:9/nowhere:1") as caught:
        build_image(plan, settings_in(tmp_path, docker_base_image=base), Silent())
    assert "--base-image" in caught.value.cure
    assert "docker import" in caught.value.cure


def test_nothing_is_made_or_pulled_offline(tmp_path: Path, base: str) -> None:
    settings = settings_in(tmp_path, offline=True)
    with pytest.raises(FetchError, match="without a package archive") as caught:
        build_image(planned(tmp_path, base, offline=True), settings, Silent())
    assert "localhost" in caught.value.cure
    here = {"offline": True, "apt_sources": ("http://localhost:9/debian bookworm main",)}
    with pytest.raises(FetchError, match="without its base image 127"):
        build_image(planned(tmp_path, "127.0.0.1:9/nowhere:1", **here), settings, Silent())


def test_packages_come_from_the_sources_that_were_given_and_one_out_of_reach_is_named(
    tmp_path: Path, base: str
) -> None:
    """Offline as well: a mirror on this machine needs no network."""
    sources = {"offline": True, "apt_sources": ("http://127.0.0.1:9/snapshot/20250520T000000Z bookworm main",)}
    plan = planned(tmp_path, base, **sources)
    with pytest.raises(ProgramError, match=r"127\.0\.0\.1:9/snapshot/20250520T000000Z") as caught:
        build_image(plan, settings_in(tmp_path, docker_base_image=base, **sources), Silent(), no_cache=True)
    assert "--apt-source" in caught.value.cure
    assert plan.tag not in toolchain_tags()


CHILD = """
import sys
from pathlib import Path
from docker_support import real_bazel, settings_in
from npu_serving.console import Silent
from npu_serving.images.toolchain_image import build_image, plan_image
settings = settings_in(Path(sys.argv[1]), docker_base_image=sys.argv[2])
class Telling(Silent):
    def progress(self, title, **rest):
        return telling(title)
import contextlib
@contextlib.contextmanager
def telling(title):
    class Progress:
        def update(self, done, *, total=None, detail=""):
            print(detail, flush=True)
    yield Progress()
build_image(plan_image(settings, real_bazel().path), settings, Telling(), no_cache=True)
"""


def test_ctrl_c_in_the_middle_of_a_build_leaves_no_container_and_no_tag(tmp_path: Path, base: str) -> None:
    path = os.pathsep.join([str(PROJECT_ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    plan = planned(tmp_path, base)
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), base],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(("Get:", "Reading package lists")):  # apt is at work
                break
        assert running_build_containers(base)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate()
    assert "KeyboardInterrupt" in errors
    while running_build_containers(base):  # the engine ends the step when it notices that nobody listens
        pass
    assert plan.tag not in toolchain_tags()


LAYER_CHILD = """
import contextlib, sys
from pathlib import Path
from npu_serving.console import Silent
from npu_serving.images.docker_engine import connected
from npu_serving.images.build_context import ImageContext
from npu_serving.images.build_steps import make_layer
class Progress:
    def __init__(self, title):
        self.title = title
    def update(self, done, *, total=None, detail=""):
        print(self.title, flush=True)
class Telling(Silent):
    @contextlib.contextmanager
    def progress(self, title, **rest):
        yield Progress(title)
with connected() as client:
    made = make_layer(client, ImageContext("distro", sys.argv[2], ()), Path(sys.argv[1]), Telling(), no_cache=True)
    print("made", made.image_id)
"""


def test_ctrl_c_while_the_layer_is_made_leaves_no_container_and_no_image(tmp_path: Path, base: str) -> None:
    mark = uuid.uuid4().hex
    dockerfile = f"FROM {base}\nLABEL {mark}=x\nRUN head -c 200000000 /dev/zero > /opt/zeros\n"
    with connected() as client:
        before = {image.id for image in client.images.list(filters={"dangling": True})}
    with subprocess.Popen(
        [sys.executable, "-c", LAYER_CHILD, str(tmp_path / "log"), dockerfile],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if "one layer" in line:
                break
        child.send_signal(signal.SIGINT)
        said, errors = child.communicate()
    assert "KeyboardInterrupt" in errors
    assert "made" not in said.split()
    with connected() as client:
        carrying: dict[str, str | list[str] | bool] = {"label": mark}
        assert client.containers.list(all=True, filters=carrying, ignore_removed=True) == []
        after = {image.id for image in client.images.list(filters={"dangling": True})}
        built = {image.id for image in client.images.list(filters=carrying)}
        assert after - before <= built  # what the steps made is the cache for the next try
        for image in built:
            client.images.remove(str(image))


def test_a_hostile_build_argument_is_a_value_and_nothing_else(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "a'b\"c $HOME ${x} `id` \\\nRUN touch /opt/broken\nLABEL x=y # é"
    monkeypatch.setenv("no_proxy", hostile)
    dockerfile = f'FROM {base}\nRUN printf %s "$no_proxy" > /opt/seen\n'
    with connected() as client:
        made = make_layer(client, ImageContext("distro", dockerfile, ()), tmp_path / "log", Silent(), no_cache=True)
        client.images.remove(made.image_id)
    assert made.entries["opt/seen"].sha256 == hashlib.sha256(hostile.encode()).hexdigest()
    assert "opt/broken" not in made.entries


def test_a_path_outside_of_the_context_is_refused_and_nothing_is_left(tmp_path: Path, base: str) -> None:
    context = ImageContext("distro", f"FROM {base}\nCOPY ../../etc/passwd /opt/\n", ())
    with connected() as client, pytest.raises(ProgramError, match="passwd"):
        make_layer(client, context, tmp_path / "log", Silent(), no_cache=True)


def running_build_containers(base: str) -> list[str]:
    """The containers in which the engine runs the steps of an image on that base."""
    with connected() as client:
        found = client.containers.list(filters={"ancestor": base, "label": f"{ROLE}=toolchain"}, ignore_removed=True)
        return [str(container.id) for container in found]


def test_the_engine_says_what_it_is() -> None:
    with connected() as client:
        facts = engine_facts(client)
    assert facts.version
    assert facts.processors >= 1
    assert facts.machine == os.uname().machine


def test_a_reader_who_goes_away_gets_no_traceback_of_the_sdk() -> None:
    with pytest.raises(NpuServingError), connected() as client:
        client.containers.get("no-such-container-of-anybody")


def test_the_container_tests_are_not_skipped_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="why"):
        missing("why")
