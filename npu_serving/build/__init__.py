"""The build: runners, Bazel, the pipeline along the whole road, the artifact it leaves."""
