"""The golden requests of a kit, asked of a server that is a script."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_kits import ANSWER, described, install_adapter, small_adapter

from npu_serving.builds.manifest import SERVER, Build
from npu_serving.cann.install import Cann
from npu_serving.console import Silent
from npu_serving.errors import FileAccessError, KitError, RequestError, ServerError
from npu_serving.relink_kit.kit_file import KIT_JSON, read_kit
from npu_serving.relink_kit.proof import GoldenProof

SCRIPT = """#!{python}
import http.server, json, mmap, sys
from pathlib import Path
def compiles(): pass
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
{first}
adapter = Path(sys.argv[0]).parent.parent / "lib/_tf_adapter.so"
file = adapter.open("rb")
loaded = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if {loads} else None
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer({{"model_version_status": [{{"version": "1", "state": "AVAILABLE"}}]}})
    def do_POST(self):
        compiles()
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({{"predictions": [2.0 + each / 2 for each in asked["instances"]]}})
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(flags["rest_api_port"])), Handler).serve_forever()
"""


@dataclasses.dataclass
class World:
    """A kit with golden requests, a build, a model, and a CANN."""

    root: Path
    notes: list[str]

    def golden(self, **changes: object) -> None:
        """Puts one request into the kit."""
        document = {"format": 2, "model": "half", "instances": [1.0], "expected": [2.5], **changes}
        document.setdefault("model_base_path", str(self.root / "models/half"))
        entries = {"golden/half.json": json.dumps(document).encode(), "golden/half.config": b"session_config {}"}
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()}
        with zipfile.ZipFile(self.root / "kit.pyz", "w") as packed:
            packed.writestr(KIT_JSON, described({}, libraries={}, entries=hashes).to_bytes())
            for name, data in entries.items():
                packed.writestr(name, data)

    def prove(
        self, *, first: str = "", loads: bool = True, models: Path | None = None, config: Path | None = None
    ) -> None:
        """Asks the server, which begins with the statements `first`."""
        directory = self.root / "dist/new"
        server = directory / SERVER
        server.parent.mkdir(parents=True, exist_ok=True)
        server.write_text(SCRIPT.format(python=sys.executable, first=first, loads=loads))
        server.chmod(0o755)
        adapter = directory / "lib/_tf_adapter.so"
        adapter.parent.mkdir(exist_ok=True)
        adapter.write_bytes((self.root / "adapter/_tf_adapter.so").read_bytes())
        digest = hashlib.sha256(adapter.read_bytes()).hexdigest()
        manifest = dataclasses.replace(
            described({}, libraries={}).manifest,
            adapter={"sha256": digest},
            files={"lib/_tf_adapter.so": digest},
        )
        kit = read_kit(self.root / "kit.pyz")
        proof = GoldenProof(kit, self.root / "cache", models, config)
        proof.prove(Build(directory, manifest, current=False), Cann("auto", str(self.root / "Ascend"), self.root), self)

    def note(self, text: str) -> None:
        self.notes.append(text)

    warn = note
    progress = Silent().progress


@pytest.fixture
def world(tmp_path: Path) -> World:
    install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "adapter", ANSWER))
    (tmp_path / "models/half/1").mkdir(parents=True)
    return World(tmp_path, [])


def test_a_server_that_answers_as_expected_is_proven_with_the_platform_config_of_the_kit(world: World) -> None:
    world.golden(platform_config_file="half.config")
    check = 'assert Path(flags["platform_config_file"]).read_text() == "session_config {}"'
    world.prove(first=check)
    (said,) = world.notes
    assert said.startswith("The new server answers 1 golden request for half as expected, on the CPU, since no")


NPU = 'session_config { graph_options { rewrite_options { custom_optimizers { name: "NpuOptimizer" } } } }'
COMPILES = (
    'print("I geop_npu.cc:1] The model has been compiled on the Ascend AI processor", file=sys.stderr, flush=True)'
)


def test_where_the_npu_is_asked_for_an_answer_counts_only_if_the_model_was_compiled_for_it(
    world: World, tmp_path: Path
) -> None:
    world.golden()
    config = tmp_path / "npu.config"
    config.write_text(NPU)
    with pytest.raises(ServerError, match="the CPU computed it") as refused:
        world.prove(config=config)
    assert "use_off_line" in refused.value.cure
    with pytest.raises(ServerError, match="the CPU computed it"):
        world.prove(config=config, first=COMPILES)  # while it was loaded, which may be its restoring
    world.prove(config=config, first=f"def compiles(): {COMPILES}")
    assert world.notes[-1].endswith("as expected, on the NPU.")
    config.write_text(NPU.replace('"NpuOptimizer"', '"NpuOptimizer" parameter_map { key: "use_off_line" value {} }'))
    with pytest.raises(RequestError, match="use_off_line is given as nothing"):
        world.prove(config=config)


def test_the_sign_of_the_npu_is_printed_whatever_level_the_caller_has_set(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.golden()
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    world.prove(first='import os; assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"')


def test_a_models_directory_that_can_not_be_read_is_an_error_with_its_path(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.golden(version=1)
    listed = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path.name == "half":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    with pytest.raises(FileAccessError, match=r"models/half could not be read: Permission denied"):
        world.prove()


def test_another_answer_is_an_error_with_both_values(world: World) -> None:
    world.golden(expected=[3.5])
    with pytest.raises(ServerError, match=r"golden request half, .*predictions\[0\] is 2.5, not 3.5"):
        world.prove()


def test_a_server_that_ends_is_an_error_with_the_last_lines_of_its_log(world: World) -> None:
    world.golden()
    with pytest.raises(ServerError, match=r"The new server ended \(7\)[^$]*no device"):
        world.prove(first="print('no device', file=sys.stderr); sys.exit(7)")


def test_a_server_without_its_adapter_in_memory_is_an_error(world: World) -> None:
    world.golden()
    with pytest.raises(ServerError, match="runs without the adapter"):
        world.prove(loads=False)


def test_what_can_not_be_asked_here_is_said_and_nothing_is_started(world: World) -> None:
    world.golden(model_base_path="/no/such/model")
    world.prove(first="sys.exit(9)")
    world.golden(label="stable")
    world.prove(first="sys.exit(9)")
    world.golden(version=7)
    world.prove(first="sys.exit(9)")
    assert [note.partition(" was not asked: ")[2].partition(" ")[0] for note in world.notes] == ["its", "it", "version"]


@pytest.mark.parametrize("models", [Path("/secret"), None])
def test_a_directory_above_a_model_that_may_not_be_searched_is_an_error_in_words(
    world: World, monkeypatch: pytest.MonkeyPatch, models: Path | None
) -> None:
    is_directory = Path.is_dir

    def refused(path: Path) -> bool:
        if "secret" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return is_directory(path)

    world.golden(model_base_path="/secret/half")
    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(FileAccessError, match="/secret/half could not be read: Permission denied"):
        world.prove(models=models)


def test_models_that_are_elsewhere_are_found_where_the_flag_says(world: World) -> None:
    world.golden(model_base_path="/no/such/model")
    world.prove(models=world.root / "models")
    world.prove(models=world.root / "models/half")
    assert len([note for note in world.notes if "as expected" in note]) == 2


def test_a_golden_request_that_was_altered_in_the_kit_is_refused(world: World) -> None:
    world.golden()
    kit = world.root / "kit.pyz"
    kit.write_bytes(kit.read_bytes().replace(b"[2.5]", b"[9.5]"))
    with pytest.raises(KitError, match="not a whole relink kit"):
        world.prove()
