"""clean: removes what can be made again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.settings import Settings

KEPT = ("store", "distdir", "locks", "tools")


@dataclass(frozen=True)
class CleanResult:
    """What was, or would be, removed."""

    removed: tuple[Path, ...]
    dry_run: bool

    def to_json(self) -> dict[str, object]:
        """The paths."""
        return {"removed": [str(path) for path in self.removed], "dry_run": self.dry_run}

    def text(self) -> str:
        """A line for each path."""
        if not self.removed:
            return "There is nothing to remove."
        verb = "would be removed" if self.dry_run else "removed"
        return "\n".join(f"{verb}: {path}" for path in self.removed)


def clean_state(settings: Settings, *, everything: bool, dry_run: bool) -> CleanResult:
    """Empties the build root, of trees, output, logs and memos; with `everything` of the fetched files too.

    Never touches dist/.
    """
    root = settings.build_root
    if not root.is_dir():
        return CleanResult((), dry_run)
    with fsutil.state_lock(root, doing="clean"):
        doomed = [
            path for path in sorted(root.iterdir()) if path.name != ".lock" and (everything or path.name not in KEPT)
        ]
        if not dry_run:
            for path in doomed:
                fsutil.remove(path)
    return CleanResult(tuple(doomed), dry_run)
