"""The CANN that is installed here."""

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
