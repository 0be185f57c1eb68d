"""Which part of a graph the NPU computes, and which the CPU."""
