"""The commands, as invoke finds them. Each parses its flags, calls one function of the package and prints its result.

They stand in npu_serving/commands/, by what they are about.
"""

from __future__ import annotations

from npu_serving.commands.asking import predict
from npu_serving.commands.building import build_image, build_serving, render_overlay, renew_base_images
from npu_serving.commands.builds import list_builds, prune, rebuild_after_cann, rollback, smoke, verify_serving
from npu_serving.commands.cann import adapter_needs, cann_info, render_watch_units
from npu_serving.commands.ci import init_ci
from npu_serving.commands.comparing import compare_answers
from npu_serving.commands.compiling import convert_om
from npu_serving.commands.conversion import convert_pb
from npu_serving.commands.dependencies import bundle, fetch_deps, lock_deps, unbundle
from npu_serving.commands.deployment import check_deployment, init_deployment, render_deployment
from npu_serving.commands.development import bench, clean, lint, test
from npu_serving.commands.first_steps import demo, doctor, settings
from npu_serving.commands.inspection import graph_nodes
from npu_serving.commands.measuring import load_test
from npu_serving.commands.model_checks import check_model
from npu_serving.commands.options import explain
from npu_serving.commands.packaging import package, package_client, package_image
from npu_serving.commands.partition import partition_graph
from npu_serving.commands.publishing import publish_model
from npu_serving.commands.recording import record, show_recording
from npu_serving.commands.running import serve, status, warm_cache, write_warmup
from npu_serving.commands.runs import compare_runs, list_runs
from npu_serving.commands.scripts import new_script
from npu_serving.commands.servers import logs, reload, restart, stop
from npu_serving.commands.support import show_dump, support_bundle
from npu_serving.commands.tuning import suggest_gears, tune

__all__ = [
    "adapter_needs",
    "bench",
    "build_image",
    "build_serving",
    "bundle",
    "cann_info",
    "check_deployment",
    "check_model",
    "clean",
    "compare_answers",
    "compare_runs",
    "convert_om",
    "convert_pb",
    "demo",
    "doctor",
    "explain",
    "fetch_deps",
    "graph_nodes",
    "init_ci",
    "init_deployment",
    "lint",
    "list_builds",
    "list_runs",
    "load_test",
    "lock_deps",
    "logs",
    "new_script",
    "package",
    "package_client",
    "package_image",
    "partition_graph",
    "predict",
    "prune",
    "publish_model",
    "rebuild_after_cann",
    "record",
    "reload",
    "render_deployment",
    "render_overlay",
    "render_watch_units",
    "renew_base_images",
    "restart",
    "rollback",
    "serve",
    "settings",
    "show_dump",
    "show_recording",
    "smoke",
    "status",
    "stop",
    "suggest_gears",
    "support_bundle",
    "test",
    "tune",
    "unbundle",
    "verify_serving",
    "warm_cache",
    "write_warmup",
]
