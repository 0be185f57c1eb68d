"""The commands: each parses its flags, calls one function of the package and prints its result.

Nothing but invoke is imported up here, so that `--list` costs no more than invoke itself.
"""

from __future__ import annotations

from invoke import task

SETTINGS_HELP = {
    "source": "what is built: a version, the path of a serving tree or of its archive, or `sample`",
    "adapter": "_tf_adapter.so: `auto` (that of the CANN installed here), a path, or `sample`",
    "runner": "where Bazel runs: host, docker, or auto",
    "mirror": "tried before the pinned URLs: a base URL, or NEW=OLD to replace the beginning of a URL (repeatable)",
    "base_image": "the image that the toolchain image is made from",
    "offline": "open no connection",
    "jobs": "how many actions Bazel runs at once",
    "json": "print one JSON document",
    "dry_run": "print the plan, change nothing",
}


def _help(*names: str, **further: str) -> dict[str, str]:
    return {**{name: SETTINGS_HELP[name] for name in names}, **further}


def _run(work, *, as_json=False):
    """Prints the result of `work(console)` and leaves with its exit code; shows an error as a person needs it."""
    from npu_serving.cli import answer

    answer(work, as_json=as_json)


@task(help=_help("json"))
def demo(_context, json=False):
    """Take the whole road on the embedded sample: build, verify, serve, predict, upgrade CANN, relink, serve again."""

    def work(console):
        from npu_serving.demo import run_demo
        from npu_serving.settings import load_settings

        return run_demo(load_settings(), console)

    _run(work, as_json=json)


@task(help=_help("source", "adapter", "runner", "json", "dry_run", fix="carry out the cures that are safe"))
def doctor(_context, source=None, adapter=None, runner=None, fix=False, json=False, dry_run=False):
    """Check everything that a build needs; each finding comes with its cure."""

    def work(console):
        from npu_serving.build.inputs import runner_name
        from npu_serving.settings import load_settings
        from npu_serving.toolchain.doctor import examine
        from npu_serving.toolchain.fixes import apply_fixes, plan_fixes

        settings = load_settings(source=source, adapter=adapter, runner=runner)
        report = examine(settings, runner_name(settings), console)
        if not fix:
            return report
        plan = plan_fixes(report)
        return plan if dry_run else apply_fixes(plan, console)

    _run(work, as_json=json)


@task(
    name="lock-deps",
    help=_help("source", "mirror", "offline", "json", "dry_run", check="only say whether the tree and its lock agree"),
    iterable=["mirror"],
)
def lock_deps(_context, source=None, mirror=None, offline=False, check=False, json=False, dry_run=False):
    """Evaluate a serving tree's WORKSPACE and write its lock."""

    def work(console):
        from npu_serving.build.locking import lock_source
        from npu_serving.settings import load_settings

        settings = load_settings(source=source, mirrors=mirror, offline=offline)
        return lock_source(settings, console, check=check or dry_run)

    _run(work, as_json=json)


@task(
    name="fetch-deps",
    help=_help(
        "source",
        "mirror",
        "offline",
        "json",
        "dry_run",
        import_="adopt the files in this directory, whatever their names, by what they hold",
        all="every archive that the tree declares, needed or not",
        verify="read every file of the store again",
    ),
    iterable=["mirror"],
)
def fetch_deps(
    _context, source=None, mirror=None, import_=None, offline=False, all=False, verify=False, json=False, dry_run=False
):
    """Fetch, verify and place the archives that the build needs."""

    def work(console):
        from npu_serving.build import dependencies
        from npu_serving.settings import load_settings, user_path

        settings = load_settings(source=source, mirrors=mirror, offline=offline)
        if import_ is not None:
            directory = user_path(import_, "--import")
            return dependencies.import_dependencies(settings, directory, console, dry_run=dry_run)
        if dry_run:
            return dependencies.plan_dependencies(settings, everything=all, verify=verify)
        return dependencies.fetch_dependencies(settings, console, everything=all, verify=verify)

    _run(work, as_json=json)


@task(
    name="render-overlay",
    help=_help(
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
        from npu_serving.build.overlaying import render
        from npu_serving.settings import load_settings

        settings = load_settings(source=source, adapter=adapter)
        return render(settings, diff=diff, check=check, remove=remove, dry_run=dry_run)

    _run(work, as_json=json)


@task(name="build-image", help=_help("base_image", "json", "dry_run", no_cache="build every layer anew"))
def build_image(_context, base_image=None, no_cache=False, json=False, dry_run=False):
    """Build the toolchain image that the Docker runner uses."""

    def work(console):
        from npu_serving.build.docker_runner import make_image
        from npu_serving.settings import load_settings

        settings = load_settings(docker_base_image=base_image)
        return make_image(settings, console, no_cache=no_cache, dry_run=dry_run)

    _run(work, as_json=json)


@task(
    name="build-serving",
    help=_help(
        "source",
        "adapter",
        "runner",
        "base_image",
        "mirror",
        "offline",
        "jobs",
        "json",
        "dry_run",
        bazel_arg="a further flag for `bazel build` (repeatable)",
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
    mirror=None,
    bazel_arg=None,
    install_link=None,
    jobs=None,
    offline=False,
    analyse=False,
    json=False,
    dry_run=False,
):
    """Build the server with the adapter linked in: fetch, overlay, Bazel, verify, package."""

    def work(console):
        from npu_serving.build import pipeline
        from npu_serving.settings import load_settings

        settings = load_settings(
            source=source,
            adapter=adapter,
            runner=runner,
            docker_base_image=base_image,
            mirrors=mirror,
            bazel_args=bazel_arg,
            install_link=install_link,
            jobs=jobs,
            offline=offline,
        )
        do = pipeline.dry_run if dry_run else pipeline.analyse if analyse else pipeline.build_serving
        return do(settings, console)

    _run(work, as_json=json)


@task(
    name="verify-serving",
    help=_help(
        "adapter",
        "json",
        build="a build of list-builds; the current one by default",
        server="look at this server instead of a build's",
    ),
)
def verify_serving(_context, build="", server=None, adapter=None, json=False):
    """Tell whether the server will start here, with the adapter that is installed, without starting anything."""

    def work(_console):
        from npu_serving.build import verify
        from npu_serving.settings import load_settings, user_path

        settings = load_settings(adapter=adapter)
        if server:
            return verify.verify_files(settings, user_path(server, "--server"))
        return verify.verify_build(settings, build)

    _run(work, as_json=json)


@task(name="list-builds", help=_help("json"))
def list_builds(_context, json=False):
    """List what was built, from what."""

    def work(_console):
        from npu_serving.build import artifact
        from npu_serving.settings import load_settings

        return artifact.list_builds(load_settings().dist_root)

    _run(work, as_json=json)


@task(
    name="rebuild-after-cann",
    help=_help(
        "adapter",
        "json",
        "dry_run",
        build="a build of list-builds; the current one by default",
        check="only say what is to be done (exit code 3 if anything)",
        clean="build all of it anew",
    ),
)
def rebuild_after_cann(_context, build="", adapter=None, check=False, clean=False, json=False, dry_run=False):
    """Link the current build again, with the adapter of the CANN that is installed now."""

    def work(console):
        from npu_serving.cann import relink
        from npu_serving.settings import load_settings

        settings = load_settings(adapter=adapter)
        if check or dry_run:
            return relink.plan_rebuild(settings, build)
        return relink.rebuild_after_cann(settings, console, build, clean=clean)

    _run(work, as_json=json)


@task(
    help=_help(
        "adapter",
        "dry_run",
        model_base_path="the directory that holds the model's version directories",
        model_name="its name; the directory's by default",
        port="the gRPC port",
        rest_api_port="the REST port; 0 for none",
        platform_config_file="the platform configuration (NpuOptimizer)",
        build="a build of list-builds; the current one by default",
        flag="a further flag of the server, --name=value (repeatable)",
    ),
    iterable=["flag"],
)
def serve(
    _context,
    model_base_path=None,
    model_name="",
    port="8500",
    rest_api_port="8501",
    platform_config_file=None,
    build="",
    adapter=None,
    flag=None,
    dry_run=False,
):
    """Run the server in the foreground."""

    def work(console):
        from npu_serving.cli import number
        from npu_serving.deploy.current import plan_current
        from npu_serving.deploy.server import serve_in_foreground
        from npu_serving.settings import load_settings, user_path

        plan = plan_current(
            load_settings(adapter=adapter),
            build=build,
            model_base_path=user_path(model_base_path, "--model-base-path") if model_base_path else None,
            model_name=model_name,
            port=number(port, "--port"),
            rest_api_port=number(rest_api_port, "--rest-api-port"),
            platform_config_file=user_path(platform_config_file, "--platform-config-file")
            if platform_config_file
            else None,
            extra_flags=flag or (),
        )
        return plan if dry_run else serve_in_foreground(plan, console)

    _run(work)


@task(positional=["model"], help=_help("json", model="the model's name", url="the server", version="one version"))
def status(_context, model, url="http://localhost:8501", version=None, json=False):
    """Tell whether a model is being served."""

    def work(_console):
        from npu_serving.cli import number
        from npu_serving.client.rest_client import model_status

        return model_status(url, model, number(version, "--version"))

    _run(work, as_json=json)


@task(
    positional=["model"],
    help=_help(
        "json",
        model="the model's name",
        request="the request in JSON: a file, - for standard input, or the text itself",
        url="the server",
        version="one version",
        signature="the signature",
    ),
)
def predict(_context, model, request="-", url="http://localhost:8501", version=None, signature="", json=False):
    """Ask a served model for a prediction."""

    def work(_console):
        from npu_serving.cli import number
        from npu_serving.client import rest_client
        from npu_serving.client.request import read_request

        return rest_client.predict(
            url, model, read_request(request), signature_name=signature, version=number(version, "--version")
        )

    _run(work, as_json=json)


@task(help={"unit": "only the fast ones, without Bazel and Docker", "k": "only those whose name matches"})
def test(_context, unit=False, k=""):
    """Run the tests."""
    from npu_serving.cli import run_pytest

    run_pytest(unit=unit, matching=k)


@task(help={"fix": "mend what can be mended"})
def lint(_context, fix=False):
    """Check style, types and shell scripts."""
    from npu_serving.cli import run_linters

    run_linters(fix=fix)


@task(help={"name": "one benchmark of bench/; all by default"})
def bench(_context, name=""):
    """Run the benchmarks."""
    from npu_serving.cli import run_benchmarks

    run_benchmarks(name)


@task(help=_help("dry_run", all="the fetched archives too"))
def clean(_context, all=False, dry_run=False):
    """Remove what can be made again; the builds in dist/ and the fetched archives stay."""

    def work(console):
        from npu_serving.clean import clean_state
        from npu_serving.settings import load_settings

        return clean_state(load_settings(), everything=all, dry_run=dry_run)

    _run(work)
