"""What one build is made from and where it is made, found out once, with what follows from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npu_serving.building import bazel
from npu_serving.building.inputs import choose_runner, find_fits, find_libpython, toolchain_of
from npu_serving.building.patching import patched_root, patches_for
from npu_serving.building.runner import Layout, Runner
from npu_serving.building.sources import ServingSource, resolve_source
from npu_serving.building.tree_digest import tree_digest
from npu_serving.builds.current import build_made_from
from npu_serving.builds.manifest import Build, FileNeeds
from npu_serving.cann.adapter import Adapter
from npu_serving.cann.install import Cann, cann_of
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.console import Reporter
from npu_serving.doctor.places import output_user_root
from npu_serving.errors import MissingToolError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.lock.lockfile import Archive
from npu_serving.overlay import adapter as overlay
from npu_serving.overlay.content import OverlayInputs
from npu_serving.overlay.patch_plan import PatchPlan
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import WITHOUT_ADAPTER, Settings


@dataclass(frozen=True)
class BuildContext:
    """Everything that a build is made from, and the settings by which it is made.

    What is worked out from the tree is kept as well, from the moment when it is first asked for: that is once the
    overlay is in place. After Bazel has run, hashed_again() shows whether the tree is still what it was.
    """

    settings: Settings
    """`sample` is replaced in them by the paths of its CANN and libpython."""
    source: ServingSource
    cann: Cann
    libpython: Path
    runner: Runner
    archives: tuple[Archive, ...]
    fits: tuple[KnownAdapter, ...] = ()
    """The adapters that the server is to fit besides the one it is linked with."""

    @property
    def adapter(self) -> Adapter:
        """The adapter that is linked in; AdapterError where the build is without one."""
        return self.cann.adapter

    @property
    def also_fits_files(self) -> dict[str, FileNeeds]:
        """Those of them that were named by their files, for the manifest."""
        return {item.release: FileNeeds(item.sha256, item.symbols) for item in self.fits if "/" in item.release}

    @cached_property
    def store(self) -> ContentStore:
        """Where fetched archives are."""
        return ContentStore(self.settings.store_root)

    @cached_property
    def layout(self) -> Layout:
        """The directories of this build; each runner has an output root of its own, for its paths differ inside."""
        return Layout(
            workspace=self.source.tree,
            output_user_root=output_user_root(self.settings, self.runner.name),
            distdir=self.settings.distdir,
            repository_cache=self.settings.store_root,
            extra=(patched_root(self.settings),),
        )

    @property
    def output_base(self) -> Path:
        """Where Bazel keeps what it made of this tree, and of no other one."""
        return bazel.output_base(self.runner, self.layout)

    @cached_property
    def toolchain(self) -> dict[str, str]:
        """What the runner says it is; it has to be ready."""
        return self.runner.identity()

    @property
    def patches(self) -> PatchPlan:
        """The fixes that the runner's compiler and C library call for; kept once no archive is missing any more."""
        if self._settled_patches:
            return self._settled_patches[0]
        plan = patches_for(self.source, self.settings, toolchain_of(self.toolchain))
        if plan.is_settled:
            self._settled_patches.append(plan)
        return plan

    @cached_property
    def _settled_patches(self) -> list[PatchPlan]:
        return []

    def patches_if_known(self) -> PatchPlan | None:
        """The same; None as long as the runner's toolchain is not made yet."""
        try:
            return self.patches
        except MissingToolError:
            return None

    @cached_property
    def overlay(self) -> OverlayInputs:
        """What goes into the tree."""
        if self.settings.without_adapter:
            return OverlayInputs(None, self.libpython, self.patches, fits=self.fits, xla=self.settings.xla)
        return OverlayInputs(
            self.adapter.path,
            self.libpython,
            self.patches,
            self.adapter.elf,
            fits=self.fits,
            xla=self.settings.xla,
        )

    @cached_property
    def bazel_flags(self) -> tuple[str, ...]:
        """The flags that the toolchain's patches call for, with paths as Bazel sees them, and the user's."""
        (root,) = self.runner.inside(self.layout).extra
        return (
            *bazel.xla_flags(self.settings.xla),
            *bazel.linker_flags(self.settings.linker),
            *self.patches.bazel_flags(root),
            *self.settings.bazel_args,
        )

    @cached_property
    def input_digest(self) -> str:
        """The digest of all that decides what the server becomes, without a path of this machine."""
        described = {
            "command": bazel.COMPILATION_FLAGS,
            "source": self.tree_digest(),
            "adapter": WITHOUT_ADAPTER if self.settings.without_adapter else self.adapter.sha256,
            "lock": self.source.lock.digest,
            "toolchain": self.toolchain,
            "flags": [self.patches.to_json(), *self.settings.bazel_args],
            "linker": self.settings.linker,
            "machine": platform.machine(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @cached_property
    def objects_digest(self) -> str:
        """The digest of all that decides what the server is linked from, but for the adapter and what follows from it.

        Builds that share it differ in the link alone.
        """
        described = {
            "command": bazel.COMPILATION_FLAGS,
            "source": self.tree_digest(without=overlay.DIRECTORY),
            "revision": self.source_identity,
            "overlay": {item.name: item.text_of_objects for item in self.overlay.content if item.text_of_objects},
            "lock": self.source.lock.digest,
            "toolchain": self.toolchain,
            "flags": [self.patches.to_json(), *self.settings.bazel_args],
            "linker": self.settings.linker,
            "machine": platform.machine(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @cached_property
    def linkers_asked(self) -> dict[str, str]:
        """What each linker printed for --version that was asked so far, by the compiler's argument for it."""
        return {}

    def seen_again(self) -> BuildContext:
        """The same inputs and toolchain, with the digests of the tree to be worked out again.

        Which patches apply is kept as well: where a tree has changed in that, hashed_again() has another digest.
        """
        again = dataclasses.replace(self)
        vars(again)["linkers_asked"] = self.linkers_asked
        if self._settled_patches:  # all that the overlay is made of was there
            vars(again).update(_settled_patches=self._settled_patches, overlay=self.overlay)
        return again

    def hashed_again(self) -> str:
        """The input digest of the tree as it is now; if it differs from before, somebody has changed the tree."""
        return dataclasses.replace(self).input_digest

    def tree_digest(self, *, without: str = "") -> str:
        """The digest of the source tree as it stands, with the overlay unless that is left out."""
        tree = self.source.tree
        name = hashlib.sha256(str(tree.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return tree_digest(tree, self.settings.build_root / "memo" / f"tree-{name}.json", without=without)

    def existing_build(self) -> Build | None:
        """The build that was made from exactly these inputs, or None. The runner and the tree have to be ready."""
        return build_made_from(self.settings.dist_root, self.input_digest)

    @property
    def source_identity(self) -> str:
        """What the server's --version shows: the archive's digest, or the lock's where the tree is the user's own."""
        archive = self.source.archive
        return archive.sha256 or "" if archive is not None else self.source.lock.digest


def find_context(
    settings: Settings, reporter: Reporter, cann: Cann | None = None, recorded: Sequence[KnownAdapter] = ()
) -> BuildContext:
    """Finds all that goes into a build, or raises the error that says what is missing or unsuitable.

    `cann` is the one to build with where somebody has looked for it already; a file in `also_fits` that is among the
    `recorded` ones counts as what it was then.
    """
    source = resolve_source(settings)  # before the sample is made: what is refused changes nothing
    source.places(settings)
    settings = with_sample(settings)
    runner = choose_runner(settings, reporter)
    cann = cann or cann_of(settings)
    fits = find_fits(settings, source, recorded)
    if not settings.without_adapter:
        _ = cann.adapter, cann.installation  # what is wrong with them is said before anything is done
    return BuildContext(
        settings=settings,
        source=source,
        cann=cann,
        libpython=find_libpython(settings),
        runner=runner,
        # A file that the user named is not fetched.
        archives=tuple(
            item for item in source.needed_archives() if source.archive_file is None or item != source.archive
        ),
        fits=fits,
    )
