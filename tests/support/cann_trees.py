"""CANN installations as the installers leave them, without the libraries in them: directories, links and info files."""

from __future__ import annotations

import platform
import shutil
import zipfile
from pathlib import Path

MACHINE = platform.machine()
OTHER_MACHINE = "aarch64" if MACHINE == "x86_64" else "x86_64"
SITE = "python/site-packages"
OPERATOR_LIST = "opp/built-in/framework/tensorflow/npu_supported_ops.json"
FAMILIES = {"5.1.RC2": "V100R001C82", "6.3.RC2": "V100R001C11", "7.0.RC1": "V100R001C13", "8.0.0": "V100R001C20"}


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def point(link: Path, target: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def make_cann(root: Path, version: str = "6.3.RC2", site: str = SITE) -> Path:
    """Toolkit and tfplugin, with `latest` on this release."""
    make_runtime(root, "ascend-toolkit", version)
    return make_plugin(root, version, site)


def make_runtime(root: Path, family: str, version: str, machine: str = MACHINE) -> Path:
    """A toolkit, nnae or nnrt; nnae has its info file at the top, the others below the machine's name."""
    directory = root / family / version
    (directory / f"{machine}-linux/lib64/plugin/opskernel").mkdir(parents=True)
    (directory / "lib64").symlink_to(f"{machine}-linux/lib64")
    place = directory if family == "nnae" else directory / f"{machine}-linux"
    name = family.removeprefix("ascend-")
    put(place / f"ascend_{name}_install.info", install_info(f"Ascend-cann-{name}", version, place, machine))
    parts = [f"{part}_running_version=[1.83.0.1.241:{version}]" for part in ("runtime", "compiler", "opp")]
    put(directory / "version.cfg", "\n".join(["# version: 1.0", *parts, ""]))
    put(directory / OPERATOR_LIST, '{"Add": {"isGray": false, "isHeavy": false}}')
    put(root / family / "set_env.sh", f"export ASCEND_TOOLKIT_HOME={root / family}/latest\n")
    point(root / family / "latest", version)
    return root


def make_plugin(root: Path, version: str, site: str = SITE) -> Path:
    directory = root / "tfplugin" / version
    put(directory / site / "npu_bridge/_tf_adapter.so")
    put(directory / "ascend_tfplugin_install.info", install_info("Ascend-cann-tfplugin", version, directory, MACHINE))
    uninstall = f'#!/bin/bash\nhere=$(dirname "$0")/..\nrm -r "$(readlink -f "$here")" "{root}/tfplugin/latest"\n'
    put(directory / "script/uninstall.sh", uninstall).chmod(0o755)
    put(root / "tfplugin/set_env.sh", f"export PYTHONPATH={root}/tfplugin/latest/{site}:${{PYTHONPATH}}\n")
    point(root / "tfplugin/latest", version)
    return root


def make_driver(
    root: Path, version: str = "23.0.rc2", family: str = "V100R001C11", fits: str = "[V100R001C13]"
) -> Path:
    (root / "driver/lib64/common").mkdir(parents=True, exist_ok=True)
    text = f"Version={version}\nascendhal_version=7.35.19\nInnerversion={family}SPC001B124\ncompatible_version={fits}\n"
    return put(root / "driver/version.info", text).parents[1]


def install_info(package: str, version: str, path: Path, machine: str) -> str:
    return (
        f"package_name={package}\nversion={version}\ninnerversion={FAMILIES.get(version, 'V100R001C99')}SPC001B241\n"
        f"compatible_version=[V100R001C10,V100R001C13],[V100R001C30]\narch={machine}\nos=linux\npath={path}\n"
    )


def make_cann_of_today(root: Path, version: str = "9.0.0") -> Path:
    """A toolkit as CANN 8.5 and later lie: cann-VERSION, and `cann` leading to it."""
    make_runtime(root, "made", version)
    (root / "made" / version).rename(root / f"cann-{version}")
    shutil.rmtree(root / "made")
    inside = root / f"cann-{version}/{MACHINE}-linux/ascend_made_install.info"
    inside.rename(inside.with_name("ascend_toolkit_install.info"))
    put(root / f"cann-{version}/set_env.sh", f"export ASCEND_HOME_PATH={root}/cann-{version}\n")
    point(root / "cann", f"cann-{version}")
    return root


def wheel_name(machine: str = MACHINE) -> str:
    return f"npu_bridge-1.15.0-py3-none-manylinux2014_{machine}.whl"


def make_wheel(
    directory: Path, adapter: bytes = b"", tag: str = f"manylinux2014_{MACHINE}", machine: str = MACHINE
) -> Path:
    """A wheel as TF Adapter's release page has it since 8.0.0; those of the time before say `any`."""
    info = "npu_bridge-1.15.0.dist-info"
    files = {
        "npu_bridge/__init__.py": b"",
        "npu_bridge/_tf_adapter.so": adapter,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: npu_bridge\nVersion: 1.15.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-{tag}\n".encode(),
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]).encode()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / wheel_name(machine)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return path


def install_wheel(directory: Path, tag: str = f"manylinux2014_{MACHINE}", adapter: bytes = b"") -> Path:
    """What pip leaves of it in the directory of its -t; returns the adapter."""
    with zipfile.ZipFile(make_wheel(directory / "download", adapter, tag)) as packed:
        packed.extractall(directory)
    shutil.rmtree(directory / "download")
    return directory / "npu_bridge/_tf_adapter.so"
