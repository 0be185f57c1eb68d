"""`./inv explain NAME` beside bare `invoke --list`, measured in turn: by a name, and by a word of the guide."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from npu_serving.settings import PROJECT_ROOT

ROUNDS = 15
LIMIT = 1.5  # times the rival, for a name


def seconds(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, cwd=PROJECT_ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    bare = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT_ROOT), "--list"]
    inv = str(PROJECT_ROOT / "inv")
    print("| ours | | rival | | ratio |\n| --- | --- | --- | --- | --- |")
    worst = 0.0
    for words in (["explain", "precision_mode_v2"], ["explain", "rest_api_port"], ["explain", "混合精度"]):
        times = [(seconds([inv, *words]), seconds(bare)) for _ in range(ROUNDS + 1)][1:]
        ours, rival = (statistics.median(column) for column in zip(*times))
        worst = max(worst, ours / rival)
        shown = f"./inv {' '.join(words)}"
        print(f"| {shown} | {1000 * ours:.0f} ms | bare invoke --list | {1000 * rival:.0f} ms | {ours / rival:.2f} |")
    if worst > LIMIT:
        print(f"Slower than {LIMIT} times the rival.")
        sys.exit(1)


if __name__ == "__main__":
    main()
