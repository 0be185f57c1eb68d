"""A server without an adapter, linked from what a build without one has made: it runs models on the CPU."""

from __future__ import annotations

import dataclasses

from npu_serving import fsutil
from npu_serving.building.build_record import BuildRecord
from npu_serving.building.context import BuildContext
from npu_serving.building.objects_plan import cpu_digest
from npu_serving.building.pipeline import manifest_of
from npu_serving.building.saved_link_run import relinked
from npu_serving.building.saved_links import saved_link_of
from npu_serving.builds.assembling import package
from npu_serving.builds.current import CPU_SERVER, build_made_from, unused_id
from npu_serving.builds.manifest import Build, id_without
from npu_serving.console import Reporter
from npu_serving.errors import BuildFailedError
from npu_serving.linking.link_command import LinkWords
from npu_serving.linking.plain_link import plain_link


def link_cpu_server(context: BuildContext, reporter: Reporter) -> Build:
    """Links it by the saved link, the adapter's words taken out, and points dist/cpu-server to it.

    `current` stays what it is. The objects have to be ready, and the caller holds the lock on build_root. Raises
    BuildFailedError where the link fails, VerificationError where the server would not start here.
    """
    dist_root, digest = context.settings.dist_root, cpu_digest(context)
    build = build_made_from(dist_root, digest)
    if build is None:
        saved = saved_link_of(context)
        if saved is None:
            raise BuildFailedError(
                "How the server is linked is not kept.",
                cause="build/links was removed in the meantime",
                cure="run the same command again",
            )
        words = plain_link(LinkWords(saved.command, saved.parameters), saved.replaced)
        name = id_without(context.source.lock.serving_version, digest)
        manifest = dataclasses.replace(
            manifest_of(context, BuildRecord(), saved.linker),
            build_id=unused_id(dist_root, name),
            input_digest=digest,
        )
        with relinked(context, saved, reporter, words=words) as server:
            build = package(dist_root, manifest, server, {}, (), moves_server=True)
    fsutil.point_link(dist_root / CPU_SERVER, build.directory.name)
    return build
