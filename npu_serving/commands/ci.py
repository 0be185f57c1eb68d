"""Building on somebody else's machine, after each change."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run


@task(
    name="init-ci",
    help=help_for(
        "json",
        "dry_run",
        system="gitlab, github or jenkins",
        output="the directory that the file is written into; the project's by default",
    ),
)
def init_ci(_context, system, output=None, json=False, dry_run=False):
    """Write the file by which a CI system builds the server, with its caches kept."""

    def work(_console):
        from npu_serving import ci_files
        from npu_serving.settings import user_path

        directory = user_path(output, "--output") if output is not None else None
        return ci_files.init_ci(system, directory, dry_run=dry_run)

    run(work, as_json=json)
