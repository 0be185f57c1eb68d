"""Scripts for TensorFlow 1.15 that set the options of the NPU."""
