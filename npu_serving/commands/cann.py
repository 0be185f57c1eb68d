"""The CANN that is installed here, and the units that watch it."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run


@task(
    name="cann-info",
    help=help_for("json", cann_root="the directory that holds tfplugin/ and ascend-toolkit/, to look there only"),
)
def cann_info(_context, cann_root=None, json=False):
    """Show what of CANN is installed here, and what is wrong with it (exit code 3 if anything)."""

    def work(_console):
        from npu_serving.cann.info import cann_info
        from npu_serving.settings import load_settings

        return cann_info(load_settings(cann_root=cann_root))

    run(work, as_json=json)


@task(
    name="render-watch-units",
    help=help_for(
        "json",
        "dry_run",
        directory="where the units go: /etc/systemd/system, or ~/.config/systemd/user",
        act="the service rebuilds; without, it reports",
        user="whom a system service runs as",
    ),
)
def render_watch_units(_context, directory="", act=False, user="", json=False, dry_run=False):
    """Write a systemd path unit that notices a new CANN, and the service that it starts."""

    def work(_console):
        from npu_serving.errors import RequestError
        from npu_serving.settings import load_settings, user_path
        from npu_serving.upgrade.watch_units import render_watch_units

        if not directory:
            raise RequestError(
                "--directory is missing.", cause="it is where the units go", cure="--directory DIRECTORY"
            )
        place = user_path(directory, "--directory")
        return render_watch_units(load_settings(), place, act=act, user=user, dry_run=dry_run)

    run(work, as_json=json)
