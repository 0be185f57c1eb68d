"""Asks git for the revision of TensorFlow at load time.

The environment variable PYTHON_BIN_PATH names the interpreter that does it.
"""

_PYTHON_BIN_PATH = "PYTHON_BIN_PATH"

def _fail(message):
    fail("\033[0;31mGit Configuration Error:\033[0m %s\n" % message)

def _python_bin(ctx):
    python = ctx.os.environ.get(_PYTHON_BIN_PATH)
    if python != None:
        return python
    found = ctx.which("python")
    if found == None:
        _fail("there is no python in PATH=%s and %s is not set" % (
            ctx.os.environ.get("PATH", ""),
            _PYTHON_BIN_PATH,
        ))
    return str(found)

def _git_configure(ctx):
    ctx.template("BUILD", Label("//third_party/git:BUILD.tpl"))
    root = str(ctx.path(Label("@org_tensorflow//:BUILD")))[:-len("BUILD")]
    result = ctx.execute([
        _python_bin(ctx),
        ctx.path(Label("@org_tensorflow//tensorflow/tools/git:gen_git_source.py")),
        "--configure",
        root,
        "--gen_root_path",
        ctx.path("gen"),
    ], quiet = False)
    if result.return_code != 0:
        _fail(result.stderr)

git_configure = repository_rule(
    implementation = _git_configure,
    environ = [_PYTHON_BIN_PATH],
)
