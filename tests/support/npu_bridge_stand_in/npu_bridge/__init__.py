"""A stand-in for CANN's npu_bridge, with what a script for inference calls; tests/support/run_scripts.py imports it.

It does without an NPU: sessions whose configuration has NpuOptimizer are refused where TF Adapter refuses them, as far
as these tests need it, and otherwise run on the CPU. What each run was made with is in RUNS.
"""

# mypy: ignore-errors

from npu_bridge.adapter import RUNS

__all__ = ["RUNS"]
__version__ = "v1.15.0"
