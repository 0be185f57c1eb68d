"""The description of the toolchain that only analyses. It calls itself what Bazel 0.24.1 calls the one it finds on Linux."""

load("@bazel_tools//tools/cpp:cc_toolchain_config_lib.bzl", "tool_path")

_TOOLS = ["ar", "cpp", "gcc", "gcov", "ld", "nm", "objcopy", "objdump", "strip"]

def _analysis_toolchain_config(ctx):
    return cc_common.create_cc_toolchain_config_info(
        ctx = ctx,
        toolchain_identifier = "analysis-" + ctx.attr.cpu,
        host_system_name = "local",
        target_system_name = "local",
        target_cpu = ctx.attr.cpu,
        target_libc = "local",
        compiler = "compiler",
        abi_version = "local",
        abi_libc_version = "local",
        tool_paths = [tool_path(name = name, path = "/bin/false") for name in _TOOLS],
    )

analysis_toolchain_config = rule(
    implementation = _analysis_toolchain_config,
    attrs = {"cpu": attr.string(mandatory = True)},
    provides = [CcToolchainConfigInfo],
)
