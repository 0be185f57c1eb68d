"""status without a model: CANN, build, deployment files and servers on one screen, and the one thing to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import CURRENT, find_build, link_target
from npu_serving.builds.verify import fit_of
from npu_serving.cann.info import CannInfo, cann_info
from npu_serving.doctor.device_nodes import device_nodes
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.server_record import KnownServer, ServerRecord, known_servers
from npu_serving.settings import Settings
from npu_serving.status.all_servers import AskedServer, all_servers
from npu_serving.status.deployment_changes import RESTART, DeploymentChange
from npu_serving.status.read_again import KnownDeployment, read_again
from npu_serving.writers.shell import task_argument

DEPLOYMENT = "deployment.yaml"


@dataclass(frozen=True)
class OverviewLine:
    """What is known of CANN, or of the build, in a line; `trouble` where something has to be done, with its cure."""

    text: str
    trouble: str = ""
    cure: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    """The same for `--json`."""

    def to_json(self) -> dict[str, object]:
        """As `--json` shows it."""
        return {**self.facts, "trouble": self.trouble or None, "next": self.cure or None}

    def shown(self) -> str:
        """For a person."""
        return "; ".join(part for part in (self.text, self.trouble) if part)


@dataclass(frozen=True)
class Overview:
    """All that `status` shows."""

    cann: OverviewLine
    build: OverviewLine
    deployments: tuple[KnownDeployment, ...]
    servers: tuple[AskedServer, ...]

    @property
    def next_step(self) -> str:
        """What to type next; "" where nothing is to be done."""
        return next(self._steps(), "")

    @property
    def exit_code(self) -> int:
        """0 where a server runs and nothing is to be done, else 3."""
        return EXIT_ACTION_NEEDED if self.next_step else 0

    def to_json(self) -> dict[str, object]:
        """All of it; `next` is null where nothing is to be done."""
        return {
            "cann": self.cann.to_json(),
            "build": self.build.to_json(),
            "deployments": [deployment.to_json() for deployment in self.deployments],
            "servers": [server.to_json() for server in self.servers],
            "next": self.next_step or None,
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """One screen: a line for each thing, servers that run first, and the next step."""
        lines = [("CANN", self.cann.shown()), ("Build", self.build.shown())]
        lines += [("Deployment", deployment.text()) for deployment in self.deployments]
        ordered = sorted(self.servers, key=lambda server: server.record is None)
        lines += [("Server", server.text()) for server in ordered]
        lines += [("Server", "none was started here by ./inv serve")] if not self.servers else []
        width = max(len(head) for head, _ in lines) + 2
        shown = [f"{head.ljust(width)}{text}" for head, text in lines]
        return "\n".join([*shown, f"Next: {self.next_step}" if self.next_step else "Nothing is to be done."])

    def _steps(self) -> Iterator[str]:
        """What is to be done, the most urgent first: what keeps servers from running, then what they lack."""
        running = [(server, server.record) for server in self.servers if server.record is not None]
        yield from (f"./inv check-deployment {known.as_argument}" for known in self.deployments if known.trouble)
        yield from (line.cure for line in (self.cann, self.build) if line.trouble)
        yield from (server.end.cure for server in self.servers if server.end is not None and server.end.cure)
        for server, record in running:
            if server.missing:
                yield _again_step(server, record)
        for server, _ in running:
            if server.is_on_the_cpu:
                yield f"./inv cann-info: {server.url} is meant for the NPU"
        for server, record in running:
            if not record.is_watched or server.due == RESTART:
                yield _restart_step(record)
            elif server.due:
                yield f"./inv reload {record.name}"
        served = {record.deployed.file for _, record in running if record.deployed}
        yield from (f"./inv serve {known.flags}" for known in self.deployments if known.source.file not in served)
        if not running:
            yield "./inv init-deployment --model NAME=PATH, then ./inv serve --deployment deployment.yaml"


def _again_step(server: AskedServer, record: ServerRecord) -> str:
    """For a server that lacks a model."""
    if not record.rest_api_port:
        return "read what serve says of it, or give it a REST port (--rest-api-port)"
    return f"./inv status {task_argument('--model', server.missing)} --url {server.url} says more of it"


def _restart_step(record: ServerRecord) -> str:
    """For one that has to be started again."""
    if record.request is None:  # an earlier version of this project has started it
        return f"./inv stop {record.name}, then ./inv serve --detach as it was started before"
    return f"./inv restart {record.name}"


def overview(settings: Settings, directory: Path) -> Overview:
    """What is known of this machine's servers and of what they are made from; each of their models is asked.

    `directory` is where the user is: its deployment.yaml counts, whether a server was started by it or not.
    """
    known = known_servers(settings.build_root)
    adapters = {
        server.record.deployed.name: server.record.request.adapter
        for server in known
        if server.record is not None and server.record.deployed is not None and server.record.request is not None
    }
    deployments = {
        source.name: read_again(settings, source, adapters.get(source.name, ""))
        for source in _sources(known, directory)
    }
    uses_npu = any(item.deployment is not None and item.deployment.uses_npu() for item in deployments.values())
    uses_npu = uses_npu or any(server.record is not None and server.record.uses_npu for server in known)
    build, of_build = _build(settings)
    servers = all_servers(settings.build_root, deployments)
    return Overview(
        _cann(of_build, is_needed=uses_npu or not known),
        build,
        tuple(deployments.values()),
        tuple(_with_build(server, settings.dist_root) for server in servers),
    )


def _sources(known: tuple[KnownServer, ...], directory: Path) -> list[DeployedFrom]:
    """What the servers were deployed from that run, or that ran and whose file is still there; then the file here."""
    found: dict[str, DeployedFrom] = {}
    for server in known:
        source = server.record.deployed if server.record is not None else None
        if source is not None and (server.is_running or source.file.is_file()):
            found.setdefault(source.name, source)
    here = DeployedFrom((directory / DEPLOYMENT).absolute())
    if here.file.is_file() and here.file not in {source.file for source in found.values()}:
        found[here.name] = here
    return list(found.values())


def _cann(settings: Settings, *, is_needed: bool) -> OverviewLine:
    """The release, the adapter and the chips; what is wrong where it is needed."""
    chips = len(device_nodes().chips)
    npus = f"{chips} {'NPU' if chips == 1 else 'NPUs'}" if chips else "no NPU (/dev/davinci*)"
    facts: dict[str, object] = {"version": None, "root": None, "adapter": None, "npus": chips}
    try:
        info = cann_info(settings)
    except NpuServingError as error:
        return OverviewLine(npus, error.what.rstrip("."), error.cure, facts)
    parts = [_adapter_text(info), npus]
    if info.adapter is not None:
        facts["adapter"] = str(info.adapter.path)
    if info.installation is not None:
        facts |= {"version": info.installation.version, "root": str(info.installation.root)}
        parts.insert(0, f"{info.installation.version or 'of unknown version'} in {info.installation.root}")
    problem = next((finding for finding in info.findings if finding.needs_action), None)
    if problem is None or not is_needed:
        return OverviewLine(", ".join(parts), facts=facts)
    return OverviewLine(", ".join(parts), problem.what.rstrip("."), problem.cure or "./inv cann-info", facts)


def _adapter_text(info: CannInfo) -> str:
    """Where the adapter is, from the CANN that it is in."""
    if info.adapter is None:
        return "no adapter"
    root = info.installation.root if info.installation is not None else Path("/")
    is_within = root in info.adapter.path.parents
    return f"adapter {info.adapter.path.relative_to(root) if is_within else info.adapter.path}"


def _build(settings: Settings) -> tuple[OverviewLine, Settings]:
    """The current build, and the settings that it was made with."""
    facts: dict[str, object] = {"id": None, "directory": None, "fits": False}
    try:
        build = find_build(settings.dist_root)
        of_build = settings_of(build, settings)
    except NpuServingError as error:
        return OverviewLine("none is current", error.what.rstrip("."), error.cure, facts), settings
    fit = fit_of(build, settings)
    name = build.manifest.build_id
    facts = {"id": name, "directory": str(build.directory), "fits": fit.fits}
    if not fit.fits:
        return OverviewLine(f"{name} does not fit", fit.why, fit.cure, facts), of_build
    text = f"{name} fits the installed CANN" + (f", {fit.why}" if fit.why else "")
    return OverviewLine(text, facts=facts), of_build


def _with_build(server: AskedServer, dist_root: Path) -> AskedServer:
    """The server with one change more where another build has become current since it was started."""
    record, current = server.record, link_target(dist_root, CURRENT)
    if record is None or not record.build or current in ("", record.build):
        return server
    was_named = record.request is not None and record.request.build
    if was_named or (dist_root / CURRENT).lstat().st_mtime <= record.started:
        return server
    return replace(server, changes=(*server.changes, DeploymentChange("build", record.build, current, RESTART)))
