"""Archives: which ones a tree declares, and bringing them in."""

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
    ),
    iterable=["mirror"],
)
def lock_deps(_context, source=None, mirror=None, offline=False, check=False, pin=False, json=False, dry_run=False):
    """Evaluate a serving tree's WORKSPACE and write its lock."""

    def work(console):
        from npu_serving.build.locking import lock_source
        from npu_serving.settings import load_settings

        settings = load_settings(source=source, mirrors=mirror, offline=offline)
        return lock_source(settings, console, check=check or dry_run, pin=pin)

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
        listen="where --serve listens: ADDRESS:PORT",
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
    listen="0.0.0.0:8280",
    json=False,
    dry_run=False,
):
    """Fetch, verify and place the archives that the build needs."""

    def work(console):
        from npu_serving.build import dependencies
        from npu_serving.settings import load_settings, user_path

        settings = load_settings(source=source, mirrors=mirror, offline=offline)
        if import_ is not None:
            directory = user_path(import_, "--import")
            return dependencies.import_dependencies(settings, directory, console, everything=all, dry_run=dry_run)
        if serve:
            return dependencies.serve_dependencies(settings, listen, console, dry_run=dry_run)
        if toolchains:
            if dry_run:
                return dependencies.plan_toolchains(settings, everything=all, verify=verify)
            return dependencies.fetch_toolchains(settings, console, everything=all, verify=verify)
        if dry_run:
            return dependencies.plan_dependencies(settings, everything=all, verify=verify)
        return dependencies.fetch_dependencies(settings, console, everything=all, verify=verify)

    run(work, as_json=json)
