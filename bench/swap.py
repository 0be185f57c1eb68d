"""An upgrade to an adapter that the server fits, whole and with verification, beside sha256sum of the server.

    ./inv bench --name swap

The sample as it is, and with 500 MB more in the server, as in the real one. The rival reads the server once, which a
verification that trusted nothing would have to do; ours knows a file that it has read by its inode, size and times.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from _upgrades import FILLED_MB, INV, back_to, filled, measured, settings_in

from npu_serving.building.pipeline import build_serving
from npu_serving.builds.current import find_build
from npu_serving.console import Silent
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE, install_sample_cann
from npu_serving.settings import PROJECT_ROOT
from npu_serving.upgrade.rebuild_plan import SWAP

ROUNDS = 9
LIMIT_S = 0.4


def swaps(name: str, root: Path, source: str) -> float:
    """./inv rebuild-after-cann from the first CANN to the next, again and again; the median in seconds."""
    install_sample_cann(root / "next", (NEXT_RELEASE,), NEXT_RELEASE)
    (adapter,) = (root / "next").glob(f"Ascend/tfplugin/{NEXT_RELEASE}/python/site-packages/npu_bridge/_tf_adapter.so")
    settings, env = settings_in(root, source, str(adapter))
    install_sample_cann(settings.build_root / "sample")
    build_serving(settings, Silent())
    install_sample_cann(settings.build_root / "sample", (FIRST_RELEASE, NEXT_RELEASE), NEXT_RELEASE)
    former = find_build(settings.dist_root)
    ours: list[float] = []
    rival: list[float] = []
    for _ in range(ROUNDS):
        back_to(former, settings)
        seconds, printed = measured([INV, "rebuild-after-cann", "--json"], PROJECT_ROOT, env)
        done = json.loads(printed)
        if done["way"] != SWAP:
            sys.exit(f"not a swap: {printed}")
        ours.append(seconds)
        rival.append(measured(["sha256sum", str(former.server)], PROJECT_ROOT, env)[0])
    whole, read = statistics.median(ours), statistics.median(rival)
    print(
        f"| {name} | all of rebuild-after-cann, a swap | {whole:.2f} s | sha256sum of the server | {read:.2f} s "
        f"| {whole / read:.2f} |",
        flush=True,
    )
    return whole


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        slowest = swaps("sample", root, "sample")
        tree = root / "filled"
        filled(tree, root / "filling")
        slowest = max(slowest, swaps(f"sample and {FILLED_MB} MB", root, str(tree)))
        sys.exit(f"more than {LIMIT_S} s" if slowest > LIMIT_S else 0)


if __name__ == "__main__":
    main()
