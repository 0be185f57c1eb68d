"""One container without network and privileges: made, followed line by line, and gone when it ends or when we are
interrupted.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Callable

from npu_serving import debugging, process
from npu_serving.errors import FileAccessError, MissingToolError, RequestError, StateLockedError
from npu_serving.images.docker_engine import LABEL, ROLE, EngineFacts, engine_facts, explained
from npu_serving.process import Finished, LineAssembler
from npu_serving.shown_text import masked_words
from npu_serving.writers.shell import command_line

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

SECONDS_TO_END = 5
"""How long an interrupted program may tidy up before it is killed; with the engine's own work, less than 10 s."""
SECONDS_TO_APPEAR = 3.0
PIDS_LIMIT = 8192  # Bazel's JVM alone has hundreds of threads
HOST_NAME = "npu-build"  # Bazel stamps it: the same in every build
STDERR = 2
OUT_OF_MEMORY = "container was killed for memory (OOMKilled)"

PLAIN_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - the container's own
    "USER": "npu",  # Bazel gives up where neither USER nor /etc/passwd has a name for the user id
    "LANG": "C.UTF-8",
}
"""The environment of a program in the toolchain image: nothing of the caller's, the same in every run."""

OWNER_LABEL = f"{LABEL}.owner"
OUTPUT_LABEL = f"{LABEL}.output-root"


@dataclass(frozen=True)
class Bind:
    """A directory of this machine and where the container sees it."""

    source: Path
    target: PurePosixPath
    read_only: bool = True


@dataclass(frozen=True)
class ContainerSpec:
    """What runs in a container, and what it may use; without network, capabilities or new privileges, always."""

    image: str
    argv: tuple[str, ...]
    role: str
    environment: Mapping[str, str] = field(default_factory=lambda: PLAIN_ENVIRONMENT)
    directory: str = "/"
    binds: tuple[Bind, ...] = ()
    user: tuple[int, int] = (65534, 65534)
    """User and group id outside; files that are made belong to them."""
    output_root: Path | None = None
    """The directory that only one container may write to at a time."""
    processors: int = 0
    memory_mb: int = 0
    """0 means no limit, here and for the processors."""


def run_container(
    client: DockerClient,
    spec: ContainerSpec,
    *,
    log_path: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> Finished:
    """Runs the program to its end and returns what it printed; its status is a shell's (137 for SIGKILL).

    Each line goes to `on_line` and to `log_path` as it comes; `on_tick` is called about once a second meanwhile. The
    container is removed whatever happens: on Ctrl-C and any other exception the program is interrupted, then killed.
    Raises MissingToolError when the program isn't in the image, RequestError for a path that can't be mounted.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(process.opened_log(log_path, spec.argv)) if log_path is not None else None
        if log is not None:
            log.write(f"$ {command_line(masked_words(spec.argv))}    # in a container of {spec.image}\n")
        stdout, stderr = LineAssembler(log, on_line), LineAssembler(log, on_line)
        debugging.show_start(spec.argv, f"{spec.directory} in a container of {spec.image}", spec.environment)
        container = stack.enter_context(_created(client, spec))
        with _attached(client, container, on_tick) as frames:
            _start(container, spec)
            for stream, piece in frames:
                (stderr if stream == STDERR else stdout).add(piece)
        returncode = int(container.wait()["StatusCode"])
        container.reload()
        stdout.close()
        stderr.close()
        if container.attrs["State"].get("OOMKilled"):
            stderr.add(OUT_OF_MEMORY.encode() + b"\n")
    seconds = time.monotonic() - started
    debugging.show_end(spec.argv, f"ended with status {returncode}", seconds)
    return Finished(spec.argv, returncode, "".join(stdout.text), "".join(stderr.text), seconds)


def remove_left_over(client: DockerClient, output_root: Path) -> int:
    """Removes the containers that write to `output_root` and whose run was killed; returns how many those were.

    Raises StateLockedError when a run that is still alive has one.
    """
    labels = [f"{ROLE}", f"{OUTPUT_LABEL}={output_root}"]
    left = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    for container in left:
        pid = living_owner(container)
        if pid and pid != os.getpid():
            raise StateLockedError(
                f"{output_root} is in use by a container that process {pid} started.",
                cause="another build is running with the same build_root",
                cure="wait until it has finished, or use another build_root for this run",
            )
        container.remove(force=True)
    return len(left)


def living_owner(container: Container) -> int:
    """The id of the process that runs the container, 0 where that has ended or never was ours."""
    owner = str(container.labels.get(OWNER_LABEL, ""))
    pid = owner.partition(":")[0]
    return int(pid) if pid.isdigit() and owner == _process_identity(int(pid)) else 0


@contextlib.contextmanager
def _created(client: DockerClient, spec: ContainerSpec) -> Iterator[Container]:
    """The container, not yet started; gone when the block is left."""
    name = f"npu-serving-{spec.role}-{uuid.uuid4().hex[:12]}"
    container = _create(client, spec, name)
    try:
        yield container
    except BaseException:
        with contextlib.suppress(Exception):
            container.stop(timeout=SECONDS_TO_END)
        raise
    finally:
        _remove(client, name)


def _create(client: DockerClient, spec: ContainerSpec, name: str) -> Container:
    import docker

    options = _options(spec, engine_facts(client))
    try:
        return client.containers.create(**options, name=name)
    except docker.errors.APIError:
        raise
    except BaseException:
        # Interrupted in the middle of the call: what the engine is making may appear a moment later.
        deadline = time.monotonic() + SECONDS_TO_APPEAR
        while not _remove(client, name) and time.monotonic() < deadline:
            time.sleep(0.1)
        raise


@contextlib.contextmanager
def _attached(
    client: DockerClient, container: Container, on_tick: Callable[[], None] | None
) -> Iterator[Iterator[tuple[int, bytes]]]:
    """The container's output as pieces of stream 1 (out) and 2 (err), from its first byte to its last."""
    from docker.utils.socket import frames_iter

    socket: Any = client.api.attach_socket(str(container.id), params={"stdout": 1, "stderr": 1, "stream": 1})
    # The SDK keeps the response at its socket; only closing that one closes the connection beneath both.
    with contextlib.closing(socket._response):
        frames = frames_iter(socket, tty=False)  # type: ignore[no-untyped-call]
        # What TLS has deciphered already can't be waited for at the descriptor.
        is_plain = not hasattr(socket, "pending")
        yield _with_ticks(frames, socket.fileno(), on_tick) if on_tick is not None and is_plain else frames


def _with_ticks(
    frames: Iterator[tuple[int, bytes]], descriptor: int, on_tick: Callable[[], None]
) -> Iterator[tuple[int, bytes]]:
    """The frames as they come; `on_tick` is called while none does. docker-py reads from the descriptor itself."""
    while True:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN | select.POLLHUP)
        on_tick()
        if not waiting.poll(1000 * process.SECONDS_BETWEEN_TICKS):
            continue
        try:
            yield next(frames)
        except StopIteration:
            return


def _remove(client: DockerClient, name: str) -> bool:
    """Removes the container, running or not; False where there is none."""
    import docker

    with explained():
        try:
            client.api.remove_container(name, force=True, v=True)
        except docker.errors.NotFound:
            return False
    return True


def _start(container: Container, spec: ContainerSpec) -> None:
    import docker

    try:
        container.start()
    except docker.errors.APIError as error:
        if f'exec: "{spec.argv[0]}"' in str(error.explanation):  # runc's words: not found, or not to be executed
            raise MissingToolError(
                f"The image {spec.image} has no program {spec.argv[0]}.",
                cure="use --base-image with an Ubuntu 18.04 or a Debian 12 image",
            ) from error
        raise


def _options(spec: ContainerSpec, facts: EngineFacts) -> dict[str, Any]:
    """The spec in Docker's terms: docker-py's arguments of containers.create()."""
    options: dict[str, Any] = {
        "image": spec.image,
        "entrypoint": list(spec.argv),  # the image's own entry point, if its base has one, is not ours
        "environment": dict(spec.environment),
        "working_dir": spec.directory,
        "user": ":".join(map(str, user_inside(spec.user, facts))),
        "hostname": HOST_NAME,
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true", *(["label=disable"] if facts.confines_files else [])],
        "read_only": True,
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # noqa: S108 - the container's; Bazel loads libraries there
        "mounts": [_mount(bind) for bind in spec.binds],
        "labels": _labels(spec),
        "log_config": {"type": "none"},  # we keep the log
        "stop_signal": "SIGINT",  # Bazel then ends its actions and leaves its state usable
        "userns_mode": "host" if facts.remaps_users and not facts.rootless else None,
    }
    if facts.limits_pids:
        options["pids_limit"] = PIDS_LIMIT
    if spec.processors and facts.limits_cpu:
        options["nano_cpus"] = min(spec.processors, facts.processors or spec.processors) * 10**9
    if spec.memory_mb and facts.limits_memory:
        options["mem_limit"] = options["memswap_limit"] = spec.memory_mb << 20
    return options


def user_inside(user: tuple[int, int], facts: EngineFacts) -> tuple[int, int]:
    """The ids inside whose files belong to `user` outside: the engine's own user is 0 inside where it is rootless."""
    return (0, 0) if facts.rootless else user


def own_labels(role: str) -> dict[str, str]:
    """The labels that distinguish a container of this run from those of others, and from one whose run is dead."""
    return {ROLE: role, OWNER_LABEL: _process_identity(os.getpid())}


def _labels(spec: ContainerSpec) -> dict[str, str]:
    labels = own_labels(spec.role)
    if spec.output_root is not None:
        labels[OUTPUT_LABEL] = str(spec.output_root)
    return labels


def _mount(bind: Bind) -> Any:
    from docker.types import Mount

    # Not the `source:target:mode` form: a path may hold colons.
    try:
        str(bind.source).encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"Could not mount {str(bind.source)!r} into the container: its name is not valid UTF-8.",
            cure="use a directory with another name, or --runner host",
        ) from error
    if not bind.source.is_dir():
        raise FileAccessError(
            f"Could not mount {bind.source} into the container: this user sees no such directory.",
            cure="check that it exists and can be read, then run the same command again",
        )
    return Mount(str(bind.target), str(bind.source.resolve()), type="bind", read_only=bind.read_only)


def _process_identity(pid: int) -> str:
    """`pid:start`, which no later process with the same number has; "" where there is no such process."""
    with contextlib.suppress(OSError):
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return f"{pid}:{after_name[19]}"  # the 22nd field: proc(5), starttime
    return ""
