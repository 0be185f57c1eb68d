"""The repository rule for TensorFlow itself.

The environment variable TF_REVISION names another commit to build with. There is no sha256 for that one, so its archive
is used unverified: what the real tree does, and why a build should not pass this variable on.
"""

_TF_REVISION = "TF_REVISION"

def _tensorflow_http_archive(ctx):
    git_commit = ctx.attr.git_commit
    sha256 = ctx.attr.sha256

    override = ctx.os.environ.get(_TF_REVISION)
    if override:
        git_commit = override
        sha256 = ""

    urls = [
        "https://mirror.sample.invalid/github.com/tensorflow/tensorflow/archive/%s.tar.gz" % git_commit,
        "https://archives.sample.invalid/tensorflow/tensorflow/archive/%s.tar.gz" % git_commit,
    ]
    ctx.download_and_extract(
        urls,
        "",
        sha256,
        "",
        "tensorflow-%s" % git_commit,
    )

tensorflow_http_archive = repository_rule(
    implementation = _tensorflow_http_archive,
    attrs = {
        "git_commit": attr.string(mandatory = True),
        "sha256": attr.string(mandatory = True),
    },
)
