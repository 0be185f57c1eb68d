"""The final link of a server as Bazel did it, kept so that it can be done again without Bazel."""
