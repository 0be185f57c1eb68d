"""The wheel of the client library: installed where nothing else of the project is, and asking a server from there."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from grpc_server import ModelServer, serving

from npu_serving.packaging.client_wheel import IMAGES, PYTHON, REQUIRES, package_client
from npu_serving.settings import PROJECT_ROOT, Settings

ASK = """
import sys
import npu_serving
from npu_serving.client import GrpcClient
with GrpcClient(sys.argv[1]) as client:
    print(client.predict("m", {"x": [[1.0, 2.0]]})["y"].tolist(), npu_serving.__file__)
loaded = {name for name in sys.modules if name.split(".")[0] in ("google", "requests", "yaml", "invoke", "tensorflow")}
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_client(Settings(), output=tmp_path_factory.mktemp("wheel")).path


def test_the_same_tree_gives_the_same_bytes_and_a_dry_run_none(wheel: Path, tmp_path: Path) -> None:
    planned = package_client(Settings(), output=tmp_path, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    again = package_client(Settings(), output=tmp_path)
    assert again.path.read_bytes() == wheel.read_bytes()
    assert (planned.digest, planned.files) == (again.digest, again.files)
    assert (again.written, package_client(Settings(), output=tmp_path).written) == (True, False)
    assert "pip install" in again.text()


def test_every_file_is_recorded_with_its_digest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        record = packed.read(next(name for name in packed.namelist() if name.endswith("/RECORD"))).decode()
        rows = [row.split(",") for row in record.splitlines()]
        assert sorted(row[0] for row in rows) == sorted(packed.namelist())
        for name, digest, size in rows[:-1]:
            data = packed.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={found}", str(len(data)))


def test_it_holds_what_the_library_imports_and_nothing_else(wheel: Path) -> None:
    code = "import pkgutil, importlib, sys, npu_serving.client as c\n"
    code += "[importlib.import_module('npu_serving.client.' + m.name) for m in pkgutil.iter_modules(c.__path__)]\n"
    code += "print(*sorted(n for n in sys.modules if n.split('.')[0] == 'npu_serving'))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(wheel) as packed:
        files = {name for name in packed.namelist() if ".dist-info/" not in name}
    modules = {name[:-3].replace("/", ".").replace(".__init__", "") for name in files}
    assert modules == set(ran.stdout.split())


def test_its_requirements_are_met_by_the_versions_that_the_project_pins() -> None:
    pinned = (PROJECT_ROOT / "requirements.txt").read_text(encoding="utf-8").lower()
    for requirement in (*REQUIRES, IMAGES):
        assert f"\n{requirement.partition('>=')[0].lower()}==" in f"\n{pinned}"
    assert f'requires-python = "{PYTHON}"' in (PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_installed_alone_it_asks_a_server(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--no-cache-dir"]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    ran = subprocess.run(install, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (installed,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # NumPy and grpcio are those of the tests: nothing is fetched.
    (installed / "tests.pth").write_text(str(Path(np.__file__).parents[1]) + "\n")
    server: ModelServer
    with serving() as server:
        words = [str(python), "-I", "-c", ASK, server.url]
        ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    answer, _, place = ran.stdout.strip().rpartition(" ")
    assert answer == "[[2.0, 4.0]]"
    assert Path(place).is_relative_to(installed)
