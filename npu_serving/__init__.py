"""npu-serving: TensorFlow Serving 1.15 with Huawei's TF Adapter, built, proven, deployed and kept running."""

from __future__ import annotations

__version__ = "0.1.0"
