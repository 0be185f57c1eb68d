package(default_visibility = ["//visibility:public"])

licenses(["notice"])  # Apache 2.0

cc_library(
    name = "git_version",
    hdrs = ["gen/git_version.h"],
    includes = ["."],
)
