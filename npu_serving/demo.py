"""The demo: the whole road on the embedded sample, a CANN upgrade, the failure it causes, and the cure."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.given_requests import sort_given
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.grpc_client import WITHOUT_FILES
from npu_serving.asking.image_spec import ImageSpec
from npu_serving.asking.npu_signs import NpuSigns
from npu_serving.asking.predicting import ModelAtServer, Wishes, predict_given
from npu_serving.asking.request import ROW, PredictRequest
from npu_serving.asking.rest_client import predict
from npu_serving.building import pipeline
from npu_serving.building.context import BuildContext, find_context
from npu_serving.builds.current import find_build
from npu_serving.builds.verify import verify_build
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import find_installation
from npu_serving.checking.check_deployment import check_deployment
from npu_serving.client.model_spec import ModelSpec
from npu_serving.console import Reporter, Silent, duration_text, table
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.deployment_places import read_placed_deployment
from npu_serving.deploy.init_deployment import init_deployment
from npu_serving.errors import NpuServingError, RequestError, ServerError
from npu_serving.findings import PROBLEM
from npu_serving.load.level import Terms
from npu_serving.load.load_plan import AskedWishes, LoadWishes, plan_load_test
from npu_serving.load.load_test import run_load_test
from npu_serving.overlay.adapter import apply_overlay, plan_overlay
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.sample.cann import (
    FIRST_RELEASE,
    NEXT_RELEASE,
    UNKNOWN_RELEASE,
    install_sample_cann,
    upgrade_sample_cann,
)
from npu_serving.sample.sample_settings import sample_root
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.from_build import plan_deployment
from npu_serving.serving.readiness import ReadinessWatch, ReadyTerms
from npu_serving.serving.server import RunningServer, started
from npu_serving.serving.server_plan import ServerPlan, plan_server
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.trials.spare_server import spare_ports
from npu_serving.upgrade.rebuild import rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import SWAP

MODEL = "half_plus_two"
INSTANCES = [1.0, 2.0, 5.0]
WIDEST_RESULT = 90
_AGAIN = "run it again, and report it with build/demo/build/logs if it fails again: ./inv demo"
STRIPES = (40, 120, 80, 220, 160)  # greys
BRIGHTEST = 3
LOAD_TEST_S = 10.0
EXPECTED = [3.5, 4.0, 5.5]  # version 2 of the model, the newest, adds three
BROKEN = "npu.input_shape=x:-1"  # without the two options that belong to it the adapter ends the server
MOST_SECONDS_UNTIL_READY = 120.0


@dataclass(frozen=True)
class DemoStep:
    """One thing that the demo did."""

    name: str
    result: str
    seconds: float


@dataclass
class DemoResult:
    """All of them, in order."""

    directory: Path
    steps: list[DemoStep] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Every step."""
        return {
            "directory": str(self.directory),
            "steps": [
                {"name": step.name, "result": step.result, "seconds": round(step.seconds, 2)} for step in self.steps
            ],
        }

    def text(self) -> str:
        """The table: step, result, seconds."""
        rows = [(step.name, _cut(step.result), f"{step.seconds:.1f}") for step in self.steps]
        total = sum(step.seconds for step in self.steps)
        return (
            f"{table(rows, header=('step', 'result', 'seconds'))}\n"
            f"The demo took {duration_text(total)}; its files are in {self.directory}\n"
            "Next: ./inv doctor shows what this machine needs to build the real TensorFlow Serving."
        )


def run_demo(settings: Settings, reporter: Reporter) -> DemoResult:
    """Runs the demo below build/demo, apart from everything else; raises the error of the step that fails.

    The outer build root is locked, as clean and the builds lock it: clean would remove the files that the demo uses.
    """
    root = settings.build_root / "demo"
    mine = replace(
        settings,
        source="sample",
        adapter="sample",
        runner="host",
        cann_root="",
        install_link="",
        also_fits=Settings.also_fits,
        adapters=root / "adapters",  # none: what the user has added could be what the third release of the sample needs
        build_root=root,
        dist_root=root / "dist",
    )
    demo = _Demo(mine, reporter, DemoResult(root))
    with state_lock(settings.build_root, doing="demo"):
        demo.build()
        demo.deploy()
        demo.upgrade_without_a_link()
        demo.upgrade_and_relink()
    return demo.result


class _Demo:
    def __init__(self, settings: Settings, reporter: Reporter, result: DemoResult) -> None:
        self.result = result
        self._settings = settings
        self._reporter = reporter
        self._cann = sample_root(settings)

    def build(self) -> None:
        """From nothing to a server that will start."""
        settings = self._settings
        with self._step(f"install CANN {FIRST_RELEASE} (sample)") as say:
            fsutil.remove(settings.dist_root)  # so that every run shows a build and a relink
            install_sample_cann(self._cann)
            say("tfplugin and toolkit below build/demo/sample/Ascend")
        context = find_context(settings, self._reporter)
        with self._step("fetch") as say:
            pipeline.fetch_inputs(context, self._reporter)
            say(f"{len(context.archives)} archives verified, {context.runner.name} runner ready")
        with self._step("overlay") as say:
            say(self._overlay(context))
        with self._step("build") as say:
            built = pipeline.build_serving(settings, self._reporter)
            done = f"{built.record.compiled} sources compiled, {built.record.linked} linked"
            say(f"{done}; {built.build.manifest.build_id}")
        with self._step("verify") as say:
            verified = verify_build(settings)
            if verified.exit_code != 0:
                raise ServerError(verified.text(), cure=_AGAIN)
            say("the adapter is linked in, every symbol is defined")

    def deploy(self) -> None:
        """From a model to a server that is ready, by one file; and a mistake in it that is found before the start."""
        settings = self._settings
        file = settings.build_root / "deployment.yaml"
        with self._step("write deployment.yaml") as say:
            fsutil.remove(file)
            first = init_deployment([f"{MODEL}={SAMPLE_DIRECTORY / 'models' / MODEL}"], file, settings=settings)
            say(f"{', '.join(model.name for model in first.models)}, found by its SavedModel; options for the NPU")
        port, rest_api_port = spare_ports(2)
        values = (f"server.port={port}", f"server.rest_api_port={rest_api_port}")
        with self._step("check it") as say:
            checked = self._checked(file, values)
            if checked:
                raise ServerError("\n".join(checked), cure=_AGAIN)
            say("its models, options, ports and operators fit this build and this CANN")
        with self._step("check it with a broken option") as say:
            broken = self._checked(file, (*values, BROKEN))
            if not broken:
                raise ServerError(f"check-deployment did not notice {BROKEN}.", cure=_AGAIN)
            say(f"refused: {broken[0].rpartition('npu.input_shape: ')[2]}")
        self._serve_by(DeployedFrom(file, (), values))

    def upgrade_without_a_link(self) -> None:
        """What happens after an upgrade to a release whose needs are known: the server has all of them already."""
        self._upgrade(NEXT_RELEASE)
        with self._step("swap the adapter") as say:
            swapped = rebuild_after_cann(self._settings, self._reporter)
            if swapped.way != SWAP:
                raise ServerError(f"The server was not made for {NEXT_RELEASE}: {swapped.plan.why}.", cure=_AGAIN)
            say("nothing linked: the server was built with what the adapter of this known release needs")
        self._serve_and_predict(NEXT_RELEASE)

    def upgrade_and_relink(self) -> None:
        """What happens after an upgrade to a release that nobody has told this project of."""
        settings = self._settings
        self._upgrade(UNKNOWN_RELEASE)
        with self._step("verify the old server") as say:
            verified = verify_build(settings)
            if verified.exit_code == 0:
                raise ServerError("verify-serving did not notice the CANN upgrade.", cure=_AGAIN)
            say("rejected before starting: " + verified.headline)
        with self._step("relink") as say:
            built = rebuild_after_cann(settings, self._reporter)
            say(f"{built.record.compiled} sources compiled, {built.record.linked} linked; {built.plan.why}")
        with self._step("verify the new server") as say:
            verified = verify_build(settings)
            if verified.exit_code != 0:
                raise ServerError(verified.text(), cure=_AGAIN)
            say("it will start with the new adapter")
        self._serve_and_predict(UNKNOWN_RELEASE)

    def _upgrade(self, version: str) -> None:
        with self._step(f"upgrade to CANN {version} (simulated)") as say:
            upgrade_sample_cann(self._cann, version)
            say(f"latest -> {version}")

    def _overlay(self, context: BuildContext) -> str:
        plan = plan_overlay(context.source.tree, context.overlay)
        apply_overlay(plan)
        return f"{len(plan.changes)} files written" if plan.changes else "up to date"

    def _checked(self, file: Path, values: Sequence[str]) -> list[str]:
        """What check-deployment finds that has to be corrected."""
        try:
            placed = read_placed_deployment(file, (), values)
        except RequestError as error:
            return [error.what]
        check = check_deployment(self._settings, file, placed)
        return [finding.what for finding in check.findings if finding.severity == PROBLEM]

    def _serve_by(self, source: DeployedFrom) -> None:
        deployment = read_deployment(source.file, source.overlays, source.values)
        plan = plan_deployment(self._settings, deployment, source)
        said: list[str] = []
        golden = GoldenRequest(MODEL, MODEL, PredictRequest(ROW, INSTANCES), EXPECTED)
        terms = ReadyTerms((golden,), by_name=True)
        watch = ReadinessWatch(plan, terms, build_root=self._settings.build_root, say=said.append)
        with contextlib.ExitStack() as stack:
            with self._step("serve until it is ready") as say:
                server, log_path = stack.enter_context(self._started(plan, FIRST_RELEASE))
                stack.callback(watch.ended)
                watch.began(server.pid)
                self._wait_until_ready(watch, log_path)
                say(next(text for text in said if "ready after" in text).partition(": ")[2])
            with self._step("predict") as say:
                say(self._predicted(server, log_path, FIRST_RELEASE))
            with self._step("predict from an image") as say:
                say(self._predicted_from_image(server))
            with self._step("load test") as say:
                say(self._measured(server))

    def _wait_until_ready(self, watch: ReadinessWatch, log_path: Path) -> None:
        """As serve waits: its ports, its models, the adapter, a graph that was compiled, an answer."""
        signs, seen, until = NpuSigns(), 0, time.monotonic() + MOST_SECONDS_UNTIL_READY
        while not watch.state.ready:
            if time.monotonic() > until:
                raise ServerError(f"The server is not ready: {'; '.join(watch.state.reasons)}.", cure=_AGAIN)
            lines = fsutil.read_text(log_path).splitlines()
            for line in lines[seen:]:
                signs.add(line)
                watch.saw(line, signs)
            seen = len(lines)
            time.sleep(0.05)

    def _serve_and_predict(self, version: str) -> None:
        build = find_build(self._settings.dist_root)
        installation = find_installation(str(self._cann / "Ascend"))
        port, rest_api_port = spare_ports(2)
        plan = plan_server(
            build.directory,
            model_name=MODEL,
            port=port,
            rest_api_port=rest_api_port,
            model_base_path=SAMPLE_DIRECTORY / "models" / MODEL,
            platform_config_file=SAMPLE_DIRECTORY / "config.cfg",
            cann=cann_environment(installation, os.environ),
        )
        with self._step("serve and predict") as say, self._started(plan, version) as (server, log_path):
            say(self._predicted(server, log_path, version))

    @contextlib.contextmanager
    def _started(self, plan: ServerPlan, version: str) -> Iterator[tuple[RunningServer, Path]]:
        log_path = fsutil.make_directory(self._settings.logs) / f"server-{version}.log"
        fsutil.remove(log_path)  # it is added to, and a line of an earlier demo would prove nothing
        with started(plan, log_path=log_path) as server:
            yield server, log_path

    def _predicted(self, server: RunningServer, log_path: Path, version: str) -> str:
        """What the server answers, from the NPU."""
        prediction = predict(server.rest_url, MODEL, PredictRequest(ROW, INSTANCES))
        if not server.adapter_loaded:
            raise ServerError(
                "The server answers, but without the adapter loaded, so models run on the CPU.", cure=_AGAIN
            )
        placed = _placed_on_npu(log_path, version)
        if prediction.outputs != EXPECTED:
            raise ServerError(f"The server answered {prediction.outputs}, not {EXPECTED}.", cure=_AGAIN)
        return f"{INSTANCES} -> {prediction.outputs} on the {placed}"

    def _predicted_from_image(self, server: RunningServer) -> str:
        """Which stripe of an image the server scores highest: its model has the brightest one highest."""
        image = self._settings.build_root / "stripes.png"
        _write_stripes(image)
        model = ModelAtServer(server.rest_url, ModelSpec(MODEL), MOST_SECONDS_UNTIL_READY, WITHOUT_FILES)
        wishes = Wishes(image_spec=ImageSpec(size=(1, len(STRIPES)), channels="grey"), top=1)
        answered = predict_given(model, sort_given([str(image)]), wishes, Silent()).answered.to_json()
        found = answered["images"][0]["top"][0]  # type: ignore[index]
        if found["class"] != BRIGHTEST:
            raise ServerError(f"The server scored stripe {found['class']} highest, not {BRIGHTEST}.", cure=_AGAIN)
        return f"{image.name}, {len(STRIPES)} stripes: the highest score, {found['score']:g}, for stripe {BRIGHTEST}"

    def _measured(self, server: RunningServer) -> str:
        """How fast the server answers one request after the other, with a report."""
        asks = AskedWishes(given=(("the demo's request", PredictRequest(ROW, INSTANCES)),))
        terms = Terms(warm_up_s=0.5, duration_s=LOAD_TEST_S)
        spec = ModelSpec(MODEL)
        plan = plan_load_test(server.rest_url, spec, WITHOUT_FILES, asks, LoadWishes(concurrency="1"), terms)
        result = run_load_test(plan, self._settings.build_root, self._reporter)
        level = result.kept.run.levels[0]
        if level.errors or not level.ok:
            raise ServerError(f"The load test has failed:\n{result.text()}", cure=_AGAIN)
        p99 = level.histogram.percentile(99) / 1000
        return f"{level.ok:,} answers in {LOAD_TEST_S:g} s, p99 {p99:.1f} ms; report: {result.kept.report}"

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[_Say]:
        self._reporter.note(f"{len(self.result.steps) + 1:2}. {name}")
        began = time.monotonic()
        say = _Say()
        try:
            yield say
        except NpuServingError as error:
            error.cause = error.cause or f"step {name!r} of the demo failed"
            raise
        step = DemoStep(name, say.text, time.monotonic() - began)
        self.result.steps.append(step)
        self._reporter.note(f"    {step.result} ({duration_text(step.seconds)})")


class _Say:
    """Takes the sentence that a step reports at its end."""

    def __init__(self) -> None:
        self.text = ""

    def __call__(self, text: str) -> None:
        self.text = text


def _write_stripes(path: Path) -> None:
    """An image of stripes in different greys."""
    from PIL import Image

    image = Image.new("L", (20 * len(STRIPES), 40))
    for at, grey in enumerate(STRIPES):
        image.paste(grey, (20 * at, 0, 20 * (at + 1), 40))
    written = io.BytesIO()
    image.save(written, "PNG")
    fsutil.write_file(path, written.getvalue())


def _cut(text: str) -> str:
    """One line, short enough for the table's other columns; --json has all of it."""
    line = " ".join(text.split())
    return line if len(line) <= WIDEST_RESULT else line[: WIDEST_RESULT - 3].rstrip() + "..."


def _placed_on_npu(log_path: Path, version: str) -> str:
    """The server's own words that the adapter of this version took the graph; ServerError where it didn't."""
    wanted = f"placed on NPU (sample, CANN {version})"
    if wanted not in fsutil.read_text(log_path):
        raise ServerError(
            "The server answers, but no graph was placed on the NPU.", cure=f"look in {log_path} for the reason"
        )
    return f"NPU (sample, CANN {version})"
