"""From a serving tree to a server: source, inputs, plan, runners, Bazel, caches."""
