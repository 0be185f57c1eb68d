"""From a source tree to a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command, refuse_together
from npu_serving.errors import RequestError
from npu_serving.settings import BUILDING, FETCHING, IMAGE

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("source", "adapter", "also_fits"),
    help={
        "diff": "show what would change, change nothing",
        "check": "only report whether the overlay is up to date",
        "remove": "remove the overlay from the tree",
    },
)
def render_overlay(
    call: Call, diff: bool = False, check: bool = False, remove: bool = False, dry_run: bool = False
) -> Result:
    """Write the adapter's overlay into the source tree."""
    from npu_serving.building.overlaying import render

    return render(call.settings, diff=diff, check=check, remove=remove, dry_run=dry_run)


@command(
    settings=(IMAGE, "apt_sources", FETCHING),
    help={
        "no_cache": "make it again, even if it exists",
        "reproduce": "make it twice and compare, file by file where they differ",
    },
)
def build_image(call: Call, no_cache: bool = False, reproduce: bool = False, dry_run: bool = False) -> Result:
    """Build the toolchain image that the Docker runner uses."""
    from npu_serving.building.docker_runner import make_image

    return make_image(call.settings, call.console, no_cache=no_cache, reproduce=reproduce, dry_run=dry_run)


@command(help={"base_image": "another image to pin"})
def renew_base_images(_call: Call, base_image: str | None = None, dry_run: bool = False) -> Result:
    """Pin base images to the digests that their registries have now."""
    from npu_serving.images.base_images import renew_base_images

    return renew_base_images(base_image, dry_run=dry_run)


@command(
    settings=("source", "adapter", "also_fits", "runner", IMAGE, FETCHING, BUILDING),
    kinds={"directory": Path},
    help={
        "directory": "with --adapter none: where the kit's golden requests are; golden/ beside the builds by default",
        "reproduce": "build twice from scratch, in two places, and report whether the results are identical",
        "cpu_server": "with --adapter none: link a server without an adapter as well, which runs models on the CPU, "
        "for trying and for golden requests in CI",
        "analyse": "stop before the first compiler run, to check that everything the build needs is here",
    },
)
def build_serving(
    call: Call,
    reproduce: bool = False,
    analyse: bool = False,
    cpu_server: bool = False,
    directory: Path | None = None,
    dry_run: bool = False,
) -> Result:
    """Build the server with the adapter linked in: fetch, overlay, Bazel, verify. --adapter none stops at the link."""
    from npu_serving.building import pipeline, reproduction

    if reproduce:
        left_out = ("install_link", "disk_cache", "remote_cache", "remote_executor")
        refuse_together(
            "--reproduce",
            "it builds twice from scratch, on this machine, without a cache, and does not touch dist/ and the link",
            analyse=analyse,
            directory=directory,
            **{name: call.given.get(name) for name in left_out},
        )
        if call.settings.without_adapter:
            raise RequestError(
                "--reproduce compares two servers, and without an adapter none is linked.",
                cause="`adapter: none` is set",
                cure="name an adapter: ./inv build-serving --reproduce --adapter PATH",
            )
        return reproduction.plan(call.settings) if dry_run else reproduction.reproduce(call.settings, call.console)
    if cpu_server and not call.settings.without_adapter:
        raise RequestError(
            "--cpu-server is for builds without an adapter.",
            cause="a server with one runs models on the CPU as well, where no platform config asks for the NPU",
            cure="give --adapter none with it, or leave it out",
        )
    if directory is not None and not call.settings.without_adapter:
        raise RequestError(
            "--directory is for builds without an adapter.",
            cause="golden requests are packed into the relink kit, and with an adapter none is packed",
            cure="give --adapter none with it, or leave it out",
        )
    if dry_run:
        return pipeline.dry_run(call.settings, call.console, cpu_server=cpu_server)
    if analyse:
        return pipeline.analyse(call.settings, call.console)
    if call.settings.without_adapter:
        from npu_serving.packaging.prepared_kit import prepare_and_pack

        return prepare_and_pack(call.settings, call.console, cpu_server=cpu_server, golden=directory)
    return pipeline.build_serving(call.settings, call.console)
