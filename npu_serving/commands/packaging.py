"""A finished build, packaged for another machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command, refuse_together

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("docker_base_image", "offline"),
    kinds={"output": Path, "directory": Path},
    help={
        "directory": "with --format kit: where the golden requests for it are; golden/ beside the builds by default",
        "format": "tar, deb, image or kit; what the name of the file means by default, else tar",
        "output": "the file (.tar.gz, .tgz, .tar, .deb, .pyz), or the directory for it; dist/packages by default",
        "base_image": "with --format image: the image that it is made from",
    },
)
def package(
    call: Call,
    format: str = "",
    build: str = "",
    output: Path | None = None,
    directory: Path | None = None,
    dry_run: bool = False,
) -> Result:
    """Make a tar file, a Debian package, a runtime image or a relink kit of a finished build."""
    return _package(call, format, build, output, dry_run, directory)


@command(settings=("docker_base_image", "offline"), help={"base_image": "the image that it is made from"})
def package_image(call: Call, build: str = "", dry_run: bool = False) -> Result:
    """Make a runtime image of a finished build: package --format image."""
    return _package(call, "image", build, None, dry_run)


@command(kinds={"output": Path}, help={"output": "the directory for it; dist/packages by default"})
def package_client(call: Call, output: Path | None = None, dry_run: bool = False) -> Result:
    """Make a wheel of the client library alone, for programs that ask a server."""
    from npu_serving.packaging.client_wheel import package_client as made

    return made(call.settings, output=output, dry_run=dry_run)


def _package(
    call: Call, kind: str, build: str, output: Path | None, dry_run: bool, directory: Path | None = None
) -> Result:
    from npu_serving.packaging import package as packages
    from npu_serving.packaging.named_file import IMAGE, KIT, chosen_format

    if kind == IMAGE:
        refuse_together("--format image", "an image is stored by Docker, not in a file", output=output)
    else:
        kind = chosen_format(kind, output)
        because = "only an image is made from another image"
        refuse_together(f"--format {kind}", because, base_image=call.given.get("docker_base_image"))
    if kind == KIT:
        from npu_serving.packaging.relink_kit_file import make_kit, plan_kit

        make = plan_kit if dry_run else make_kit
        return make(call.settings, call.console, build=build, output=output, golden=directory)
    refuse_together(f"--format {kind}", "only a relink kit holds golden requests", directory=directory)
    if dry_run:
        return packages.plan_package(call.settings, kind=kind, build=build, output=output)
    return packages.package(call.settings, call.console, kind=kind, build=build, output=output)
