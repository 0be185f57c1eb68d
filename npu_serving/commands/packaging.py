"""A finished build, packed to be taken elsewhere."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, refuse_together, run

BUILD_HELP = "a build of list-builds; the current one by default"


@task(
    help=help_for(
        "json",
        "dry_run",
        "offline",
        format="tar, deb or image",
        build=BUILD_HELP,
        output="the directory of the file; dist/packages by default",
        base_image="the image that an image to run is made from",
    )
)
def package(_context, format="tar", build="", output=None, base_image=None, offline=False, json=False, dry_run=False):
    """Make a tar file, a Debian package, or an image to run, of a finished build."""
    _package(format, build, output, base_image, offline, json, dry_run)


@task(
    name="package-image",
    help=help_for("json", "dry_run", "offline", build=BUILD_HELP, base_image="the image that it is made from"),
)
def package_image(_context, build="", base_image=None, offline=False, json=False, dry_run=False):
    """Make an image to run of a finished build: package --format image."""
    _package("image", build, None, base_image, offline, json, dry_run)


def _package(
    kind: str, build: str, output: str | None, base_image: str | None, offline: bool, as_json: bool, dry_run: bool
) -> None:
    def work(console):
        from npu_serving.packaging import package as packages
        from npu_serving.settings import load_settings, user_path

        if kind == packages.IMAGE:
            refuse_together("--format image", "an image goes to the engine, not into a file", output=output)
        else:
            refuse_together(f"--format {kind}", "only an image is made from another image", base_image=base_image)
        settings = load_settings(docker_base_image=base_image, offline=offline)
        directory = user_path(output, "--output") if output is not None else None
        if dry_run:
            return packages.plan_package(settings, kind=kind, build=build, output=directory)
        return packages.package(settings, console, kind=kind, build=build, output=directory)

    run(work, as_json=as_json)
