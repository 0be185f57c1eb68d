"""The repository rule by which this TensorFlow declares its archives."""

def _tf_http_archive(ctx):
    if len(ctx.attr.urls) < 2:
        fail("%s: tf_http_archive(urls) needs a mirror and an origin" % ctx.attr.name)
    ctx.download_and_extract(
        ctx.attr.urls,
        "",
        ctx.attr.sha256,
        ctx.attr.type,
        ctx.attr.strip_prefix,
    )
    if ctx.attr.delete:
        result = ctx.execute(["rm", "-rf"] + [ctx.path(path) for path in ctx.attr.delete])
        if result.return_code != 0:
            fail("%s: %s" % (ctx.attr.name, result.stderr))
    if ctx.attr.build_file != None:
        ctx.template("BUILD.bazel", ctx.attr.build_file, {}, False)

tf_http_archive = repository_rule(
    implementation = _tf_http_archive,
    attrs = {
        "sha256": attr.string(mandatory = True),
        "urls": attr.string_list(mandatory = True, allow_empty = False),
        "strip_prefix": attr.string(),
        "type": attr.string(),
        "delete": attr.string_list(),
        "build_file": attr.label(),
    },
)
