"""From a source tree to a server."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, refuse_together, run


@task(
    name="render-overlay",
    help=help_for(
        "source",
        "adapter",
        "json",
        "dry_run",
        diff="show what would change, change nothing",
        check="only say whether the overlay is up to date",
        remove="take the overlay out of the tree",
    ),
)
def render_overlay(
    _context, source=None, adapter=None, diff=False, check=False, remove=False, json=False, dry_run=False
):
    """Write the adapter's overlay into the source tree."""

    def work(_console):
        from npu_serving.building.overlaying import render
        from npu_serving.settings import load_settings

        settings = load_settings(source=source, adapter=adapter)
        return render(settings, diff=diff, check=check, remove=remove, dry_run=dry_run)

    run(work, as_json=json)


@task(
    name="build-image",
    help=help_for(
        "base_image",
        "flavour",
        "apt_source",
        "mirror",
        "offline",
        "json",
        "dry_run",
        no_cache="make it anew, even if it is there",
        reproduce="make it twice and compare, file by file where they differ",
    ),
    iterable=["apt_source", "mirror"],
)
def build_image(
    _context,
    base_image=None,
    flavour=None,
    apt_source=None,
    mirror=None,
    offline=False,
    no_cache=False,
    reproduce=False,
    json=False,
    dry_run=False,
):
    """Build the toolchain image that the Docker runner uses."""

    def work(console):
        from npu_serving.building.docker_runner import make_image
        from npu_serving.settings import load_settings

        settings = load_settings(
            docker_base_image=base_image,
            docker_flavour=flavour,
            apt_sources=apt_source,
            mirrors=mirror,
            offline=offline,
        )
        return make_image(settings, console, no_cache=no_cache, reproduce=reproduce, dry_run=dry_run)

    run(work, as_json=json)


@task(
    name="renew-base-images",
    help=help_for("json", "dry_run", base_image="a further image to pin"),
)
def renew_base_images(_context, base_image=None, json=False, dry_run=False):
    """Pin base images to the digests that their registries have now."""

    def work(_console):
        from npu_serving.images.base_images import renew_base_images

        return renew_base_images(base_image, dry_run=dry_run)

    run(work, as_json=json)


@task(
    name="build-serving",
    help=help_for(
        "source",
        "adapter",
        "runner",
        "base_image",
        "flavour",
        "mirror",
        "offline",
        "disk_cache",
        "remote_cache",
        "remote_executor",
        "jobs",
        "json",
        "dry_run",
        bazel_arg="a further flag for `bazel build` (repeatable)",
        reproduce="build twice from scratch, in two places, and tell whether the same bytes come out",
        analyse="stop before the first compiler run: is everything there that the build asks for?",
        install_link="where the link to the server goes, such as /usr/local/bin/tensorflow_model_server",
    ),
    iterable=["mirror", "bazel_arg"],
)
def build_serving(
    _context,
    source=None,
    adapter=None,
    runner=None,
    base_image=None,
    flavour=None,
    mirror=None,
    bazel_arg=None,
    install_link=None,
    disk_cache=None,
    remote_cache=None,
    remote_executor=None,
    jobs=None,
    offline=False,
    reproduce=False,
    analyse=False,
    json=False,
    dry_run=False,
):
    """Build the server with the adapter linked in: fetch, overlay, Bazel, verify, package."""

    def work(console):
        from npu_serving.building import pipeline, reproduction
        from npu_serving.settings import load_settings

        if reproduce:
            refuse_together(
                "--reproduce",
                "it builds twice from scratch, on this machine, without a cache, and leaves dist/ and the link alone",
                analyse=analyse,
                install_link=install_link,
                disk_cache=disk_cache,
                remote_cache=remote_cache,
                remote_executor=remote_executor,
            )
        settings = load_settings(
            source=source,
            adapter=adapter,
            runner=runner,
            docker_base_image=base_image,
            docker_flavour=flavour,
            mirrors=mirror,
            bazel_args=bazel_arg,
            install_link=install_link,
            disk_cache=disk_cache,
            remote_cache=remote_cache,
            remote_executor=remote_executor,
            jobs=jobs,
            offline=offline,
        )
        if reproduce:
            return reproduction.plan(settings) if dry_run else reproduction.reproduce(settings, console)
        do = pipeline.dry_run if dry_run else pipeline.analyse if analyse else pipeline.build_serving
        return do(settings, console)

    run(work, as_json=json)
