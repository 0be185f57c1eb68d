"""Archives: which ones a tree declares, bringing them in, and carrying them to a machine without network."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run


@task(
    name="lock-deps",
    help=help_for(
        "source",
        "mirror",
        "offline",
        "json",
        "dry_run",
        check="only say whether the tree and its lock agree",
        pin="fetch archives that the tree gives no sha256 once, and write theirs into the lock",
        needed="ask Bazel which archives the server needs on x86_64 and aarch64, which takes minutes",
    ),
    iterable=["mirror"],
)
def lock_deps(
    _context,
    source=None,
    mirror=None,
    offline=False,
    check=False,
    pin=False,
    needed=False,
    json=False,
    dry_run=False,
):
    """Evaluate a serving tree's WORKSPACE and write its lock."""

    def work(console):
        from npu_serving.building.locking import lock_source
        from npu_serving.errors import RequestError
        from npu_serving.settings import load_settings

        if needed and dry_run:
            raise RequestError("--needed has no dry run.", cure="--check measures, and leaves the lock as it is")
        settings = load_settings(source=source, mirrors=mirror, offline=offline)
        return lock_source(settings, console, check=check or dry_run, pin=pin, needed=needed)

    run(work, as_json=json)


@task(
    name="fetch-deps",
    help=help_for(
        "source",
        "mirror",
        "offline",
        "json",
        "dry_run",
        import_="adopt the files in this directory, whatever their names, by what they hold",
        toolchains="the tools and the sources of tools that images are made from, instead of the tree's archives",
        all="every archive that the tree declares, needed or not; with --toolchains, for every platform",
        verify="read every file of the store again",
        serve="hand the store out as a mirror for other machines, until Ctrl-C",
        listen="where --serve listens: ADDRESS:PORT, 0.0.0.0:8280 by default",
    ),
    iterable=["mirror"],
)
def fetch_deps(
    _context,
    source=None,
    mirror=None,
    import_=None,
    toolchains=False,
    offline=False,
    all=False,
    verify=False,
    serve=False,
    listen="",
    json=False,
    dry_run=False,
):
    """Fetch, verify and place the archives that the build needs."""

    def work(console):
        from npu_serving.building import dependencies
        from npu_serving.errors import RequestError
        from npu_serving.settings import load_settings, user_path

        if listen and not serve:
            raise RequestError("--listen is where --serve listens.", cure="give --serve as well, or leave it out")
        if verify and (serve or import_ is not None):
            raise RequestError("--verify reads the store again before a fetch.", cure="give it without the others")
        settings = load_settings(source=source, mirrors=mirror, offline=offline)
        if sum([import_ is not None, serve, toolchains]) > 1:
            raise RequestError(
                "--import, --serve and --toolchains are three things.", cure="give one of them at a time"
            )
        if import_ is not None:
            directory = user_path(import_, "--import")
            return dependencies.import_dependencies(settings, directory, console, everything=all, dry_run=dry_run)
        if serve:
            return dependencies.serve_dependencies(settings, listen or "0.0.0.0:8280", console, dry_run=dry_run)
        if toolchains:
            if dry_run:
                return dependencies.plan_toolchains(settings, everything=all, verify=verify)
            return dependencies.fetch_toolchains(settings, console, everything=all, verify=verify)
        if dry_run:
            return dependencies.plan_dependencies(settings, everything=all, verify=verify)
        return dependencies.fetch_dependencies(settings, console, everything=all, verify=verify)

    run(work, as_json=json)


@task(
    help=help_for(
        "source",
        "mirror",
        "offline",
        "json",
        "dry_run",
        output="the file to write",
        all="every archive that the tree declares, needed or not",
        toolchains="every tool of locks/toolchains.json for that machine; without it the pinned Bazel alone",
        dev="the packages that ./inv test and lint need, too",
        python="the other machine's Python, such as 3.11; this one's by default",
        arch="the other machine's processor, x86_64 or aarch64; this one's by default",
        image="an image of this machine's Docker engine to take along (repeatable)",
    ),
    iterable=["mirror", "image"],
)
def bundle(
    _context,
    output=None,
    source=None,
    mirror=None,
    image=None,
    python="",
    arch="",
    all=False,
    toolchains=False,
    dev=False,
    offline=False,
    json=False,
    dry_run=False,
):
    """Put everything that a machine without network needs into one file."""

    def work(console):
        from npu_serving.bundle import bundling
        from npu_serving.errors import RequestError
        from npu_serving.settings import load_settings, user_path

        if not output:
            raise RequestError("--output is missing.", cure="./inv bundle --output FILE")
        request = bundling.BundleRequest(
            output=user_path(output, "--output"),
            everything=all,
            toolchains=toolchains,
            development=dev,
            python=python,
            machine=arch,
            images=tuple(image or ()),
        )
        settings = load_settings(source=source, mirrors=mirror, offline=offline)
        if dry_run:
            return bundling.plan_bundle(settings, request)
        return bundling.make_bundle(settings, request, console)

    run(work, as_json=json)


@task(
    positional=["bundle"],
    help=help_for(
        "json", "dry_run", bundle="the file that ./inv bundle made", sha256="the digest that ./inv bundle printed"
    ),
)
def unbundle(_context, bundle, sha256="", json=False, dry_run=False):
    """Verify a bundle and put what it holds in place."""

    def work(console):
        from npu_serving.bundle import unbundling
        from npu_serving.settings import load_settings, user_path

        settings, path = load_settings(), user_path(bundle, "the bundle")
        if dry_run:
            return unbundling.plan_unbundle(settings, path, sha256=sha256)
        return unbundling.unbundle(settings, path, console, sha256=sha256)

    run(work, as_json=json)
