"""From a tree to its lock: every repository that Bazel would see, found by evaluating the WORKSPACE."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.building.locking import lock_deps
from npu_serving.errors import FetchError, LockFileError, NpuServingError, SourceError, WorkspaceError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.lock.comparing import differences
from npu_serving.lock.lockfile import read_lock
from npu_serving.lock.tree_facts import bazel_version, serving_version, tensorflow_commit
from npu_serving.lock.workspace import lock_tree
from npu_serving.sample.sample_archives import build_archives
from npu_serving.settings import PROJECT_ROOT

SHA = "a" * 64
SAMPLE = PROJECT_ROOT / "examples" / "sample" / "serving"
SAMPLE_LOCK = PROJECT_ROOT / "locks" / "sample.json"

CUSTOM_RULE = """
def _is_windows(ctx):
    return ctx.os.name.lower().find("windows") != -1

def _patched(ctx):
    result = ctx.execute(["git", "apply", ctx.path(ctx.attr.patch_file)], timeout = 60)
    if result.return_code != 0:
        fail("patch failed: " + result.stderr)

def _my_archive(ctx):
    if ctx.os.environ.get("USE_SYSTEM") or _is_windows(ctx):
        fail("not on this system")
    ctx.download_and_extract(ctx.attr.urls, "", ctx.attr.sha256, ctx.attr.type, ctx.attr.strip_prefix)
    if ctx.attr.patch_file != None:
        _patched(ctx)
    ctx.template("BUILD.bazel", ctx.path(ctx.attr.build_file) if ctx.attr.build_file else "BUILD", {}, False)

my_archive = repository_rule(
    implementation = _my_archive,
    attrs = {
        "sha256": attr.string(mandatory = True),
        "urls": attr.string_list(mandatory = True, allow_empty = False),
        "strip_prefix": attr.string(),
        "type": attr.string(),
        "patch_file": attr.label(),
        "build_file": attr.label(),
    },
)
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    version = "#define TF_MODELSERVER_MAJOR_VERSION 1\n#define TF_MODELSERVER_MINOR_VERSION 15\n"
    everything = {
        "tensorflow_serving/model_servers/version.h": version + "#define TF_MODELSERVER_PATCH_VERSION 0\n",
        **files,
    }
    for name, text in everything.items():
        path = root / "a tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return root / "a tree"


def nothing(archive):
    raise AssertionError(f"{archive.name} was asked for")


def archives_of(path: Path, get_archive=nothing):
    return {(item.name, item.shadowed): item for item in lock_tree(path, get_archive).lock.archives}


def one(path: Path, name: str = "thing", get_archive=nothing):
    return archives_of(path, get_archive)[name, False]


def packed(directory: Path, name: str, members: dict[str, str]) -> Path:
    path = directory / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in members.items():
                archive.writestr(member, text)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for member, text in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
    return path


# ---- rules


def test_an_http_archive_is_recorded_as_declared(tmp_path):
    archive = one(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'''
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
http_archive(
    name = "thing",
    urls = ["https://a.example/1.0.zip", "https://b.example/1.0.zip"],
    sha256 = "{SHA}",
    strip_prefix = "thing-1.0",
    build_file = "@//third_party:thing.BUILD",
    patches = ["//:one.patch", "//:two.patch"],
)
'''
            },
        )
    )
    assert archive.urls == ("https://a.example/1.0.zip", "https://b.example/1.0.zip")
    assert (archive.rule, archive.sha256, archive.strip_prefix) == ("http_archive", SHA, "thing-1.0")
    assert (archive.build_file, archive.patch_files) == ("@//third_party:thing.BUILD", ("//:one.patch", "//:two.patch"))
    assert archive.file_name == "1.0.zip"


def test_a_rule_of_the_trees_own_is_run_with_a_context_that_takes_notes(tmp_path):
    archive = one(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'load("//rules:repo.bzl", "my_archive")\n'
                f'my_archive(name="thing", urls=["https://a.example/x.tgz"], '
                f'sha256="{SHA}", strip_prefix="x-1", patch_file=Label("//p:x.patch"), build_file="//p:x.BUILD")\n',
                "rules/repo.bzl": CUSTOM_RULE,
            },
        )
    )
    assert (archive.rule, archive.urls, archive.sha256) == ("my_archive", ("https://a.example/x.tgz",), SHA)
    assert (archive.strip_prefix, archive.patch_files, archive.build_file) == ("x-1", ("//p:x.patch",), "//p:x.BUILD")


def test_urls_that_an_implementation_makes_up_are_found(tmp_path):
    archive = one(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'load(":r.bzl", r = "rule_of_commits")\n'
                f'r(name="thing", git_commit="{"c" * 40}", sha256="{SHA}")\n',
                "r.bzl": """
def _impl(ctx):
    sha256 = ctx.attr.sha256
    commit = ctx.attr.git_commit
    override = ctx.os.environ.get("TF_REVISION")
    if override:
        sha256, commit = "", override
    ctx.download_and_extract(["https://a.example/%s.tar.gz" % commit], "", sha256, "", "thing-%s" % commit)

rule_of_commits = repository_rule(_impl, attrs = {"git_commit": attr.string(), "sha256": attr.string()})
""",
            },
        )
    )
    assert archive.urls == (f"https://a.example/{'c' * 40}.tar.gz",)
    assert archive.rule == "rule_of_commits"


def test_the_environment_of_the_caller_does_not_change_the_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("USE_SYSTEM", "1")
    monkeypatch.setenv("TF_REVISION", "evil")
    test_a_rule_of_the_trees_own_is_run_with_a_context_that_takes_notes(tmp_path / "one")
    test_urls_that_an_implementation_makes_up_are_found(tmp_path / "two")


def test_a_rule_that_downloads_two_files_gives_two_archives(tmp_path):
    path = tree(
        tmp_path,
        {
            "WORKSPACE": f'''
load("@bazel_tools//tools/build_defs/repo:java.bzl", "java_import_external")
java_import_external(name = "thing", jar_urls = ["https://a.example/x.jar"], jar_sha256 = "{SHA}",
    srcjar_urls = ["https://a.example/x-sources.jar"], srcjar_sha256 = "{"b" * 64}", licenses = ["notice"])
'''
        },
    )
    assert [(item.file_name, item.sha256) for item in lock_tree(path, nothing).lock.archives] == [
        ("x.jar", SHA),
        ("x-sources.jar", "b" * 64),
    ]


def test_a_rule_whose_implementation_fails_is_recorded_by_its_attributes(tmp_path):
    archive = one(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'load(":r.bzl", "r")\n'
                f'r(name="thing", urls=["https://a.example/x.tgz"], sha256="{SHA}")\n',
                "r.bzl": 'def _i(ctx):\n    fail("no compiler here")\n\n'
                "r = repository_rule(implementation=_i, attrs={})\n",
            },
        )
    )
    assert archive.sha256 == SHA


def test_what_is_made_on_the_machine_is_named_without_an_archive(tmp_path):
    lock = lock_tree(
        tree(
            tmp_path,
            {
                "WORKSPACE": 'load(":r.bzl", "cuda_configure")\ncuda_configure(name="local_config_cuda")\n'
                'local_repository(name="here", path="third_party/here")\n',
                "r.bzl": 'def _i(ctx):\n    ctx.file("BUILD", str(ctx.which("nvcc").dirname))\n\n'
                "cuda_configure = repository_rule(implementation = _i)\n",
            },
        ),
        nothing,
    ).lock
    assert lock.archives == ()
    assert {(item.name, item.rule) for item in lock.others} == {
        ("local_config_cuda", "cuda_configure"),
        ("here", "local_repository"),
    }


def test_a_git_repository_is_named_with_its_commit_as_what_no_cache_can_serve(tmp_path):
    lock = lock_tree(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'''
load("@bazel_tools//tools/build_defs/repo:git.bzl", "git_repository", "new_git_repository")
git_repository(name = "one", remote = "https://a.example/one.git", commit = "{"d" * 40}")
new_git_repository(name = "two", remote = "https://a.example/two.git", tag = "v1", build_file = "//:two.BUILD")
'''
            },
        ),
        nothing,
    ).lock
    assert [(item.name, item.commit, item.is_git) for item in lock.others] == [
        ("one", "d" * 40, True),
        ("two", "v1", True),
    ]


def test_an_archive_without_a_digest_is_recorded_as_unpinned(tmp_path):
    assert (
        one(tree(tmp_path, {"WORKSPACE": 'http_archive(name="thing", url="https://a.example/x.zip")\n'})).sha256 is None
    )


# ---- names


def test_of_two_declarations_of_a_name_the_later_one_counts(tmp_path):
    found = archives_of(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'''
http_archive(name = "thing", urls = ["https://a.example/old.zip"], sha256 = "{SHA}")
http_archive(name = "thing", urls = ["https://a.example/new.zip"], sha256 = "{"b" * 64}")
'''
            },
        )
    )
    assert found["thing", True].file_name == "old.zip"
    assert found["thing", False].file_name == "new.zip"


def test_a_declaration_before_a_load_counts_against_one_after_it(tmp_path):
    """Against intuition, and as tests/integration/test_lock_bazel.py shows of the real Bazel."""
    workspace = f'''
http_archive(name = "thing", urls = ["https://a.example/old.zip"], sha256 = "{SHA}")
load("//:more.bzl", "more")
http_archive(name = "thing", urls = ["https://a.example/new.zip"], sha256 = "{"b" * 64}")
'''
    found = archives_of(tree(tmp_path, {"WORKSPACE": workspace, "more.bzl": "def more():\n    pass\n"}))
    assert found["thing", False].file_name == "old.zip"
    assert found["thing", True].file_name == "new.zip"


def test_a_declaration_repeated_word_for_word_is_one(tmp_path):
    line = f'http_archive(name = "thing", urls = ["https://a.example/old.zip"], sha256 = "{SHA}")\n'
    assert list(archives_of(tree(tmp_path, {"WORKSPACE": line * 2}))) == [("thing", False)]


def test_macros_that_ask_what_is_declared_already_are_answered(tmp_path):
    found = archives_of(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'load(":m.bzl", "more")\n'
                f'http_archive(name="one", url="https://a.example/1.zip", sha256="{SHA}")\n'
                "more()\n",
                "m.bzl": f'''
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
def more():
    if not native.existing_rule("one"):
        http_archive(name = "one", url = "https://a.example/other.zip", sha256 = "{SHA}")
    if "two" not in native.existing_rules():
        native.http_archive(name = "two", url = "https://a.example/2.zip", sha256 = "{SHA}")
    maybe(http_archive, name = "two", url = "https://a.example/other.zip", sha256 = "{SHA}")
    maybe(http_archive, name = "three", url = "https://a.example/3.zip", sha256 = "{SHA}")
''',
            },
        )
    )
    assert {name: item.file_name for (name, _), item in found.items()} == {
        "one": "1.zip",
        "two": "2.zip",
        "three": "3.zip",
    }


def test_labels_know_the_repository_that_they_are_written_in(tmp_path):
    file = packed(
        tmp_path,
        "dep.zip",
        {
            "dep/m.bzl": f'''
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
def clean(dep):
    return str(Label(dep))
def more():
    if type(Label("//a:b")) != "Label" or Label("@x//a:b").workspace_root != "external/x":
        fail("labels are not known")
    http_archive(name = "thing", url = "https://a.example/x.zip", sha256 = "{SHA}",
        build_file = clean("//third_party:x.BUILD"),
        patches = [Label(":near.patch").relative(":nearer.patch")])
'''
        },
    )
    archive = one(
        tree(
            tmp_path,
            {
                "WORKSPACE": f'http_archive(name="dep", url="https://a.example/dep.zip", '
                f'sha256="{SHA}", strip_prefix="dep")\n'
                'load("@dep//:m.bzl", "more")\nmore()\n',
            },
        ),
        get_archive=lambda _: file,
    )
    assert archive.build_file == "@dep//third_party:x.BUILD"
    assert archive.patch_files == ("@dep//:nearer.patch",)


# ---- loading


@pytest.mark.parametrize("name", ["dep.tar.gz", "dep.zip"])
def test_files_are_loaded_out_of_archives_that_were_declared_before(tmp_path, name):
    file = packed(
        tmp_path,
        name,
        {
            "dep-1/sub/m.bzl": 'load(":n.bzl", "URL")\nload("//:top.bzl", "SHA")\n'
            "def more():\n    native.http_archive(name = 'thing', url = URL, sha256 = SHA)\n",
            "dep-1/sub/n.bzl": 'URL = "https://a.example/x.zip"\n',
            "dep-1/top.bzl": f'SHA = "{SHA}"\n',
            "other/sub/m.bzl": "this is not looked at",
        },
    )
    asked = []

    def get_archive(archive):
        asked.append((archive.name, archive.file_name))
        return file

    path = tree(
        tmp_path,
        {
            "WORKSPACE": f'http_archive(name="dep", url="https://a.example/{name}", '
            f'sha256="{SHA}", strip_prefix="dep-1")\n'
            'load("@dep//sub:m.bzl", "more")\nmore()\n',
        },
    )
    assert one(path, get_archive=get_archive).sha256 == SHA
    assert asked == [("dep", name)]


def test_old_and_odd_starlark_is_taken(tmp_path):
    archive = one(
        tree(
            tmp_path,
            {
                "WORKSPACE": 'workspace(name = "tf_serving")\n'
                'load(":m.bzl", "more")\nmore()\nregister_toolchains("//:x")\n'
                'bind(name = "y", actual = "//:y")\nprint("hello")\n',
                "m.bzl": f'''"""A file with\ta tab in its text."""\r
load("@bazel_tools//tools/cpp:lib_cc_configure.bzl", "get_cpu_value", _x = "resolve_labels")
MyInfo = provider(fields = ["a"])
my_rule = rule(implementation = lambda ctx: None, attrs = {{"deps": attr.label_list(providers = [MyInfo, CcInfo])}})
my_aspect = aspect(implementation = lambda target, ctx: None)
_LIST = depset(["a"])
def more():
\tfound = depset()
\tfor item in ["https://a.example/x.zip"]:
\t\tif item not in found.to_list():
\t\t\tfound += [item]
\tprint("declaring", found)
\tcopts = select({{"//:x": ["-O2"], "//conditions:default": []}}) + ["-g"]
\tnative.bind(name = "z", actual = "//:z")
\tunknown = cc_common.something_or_other if False else struct(a = 1)
\tnative.http_archive(name = "thing", urls = found.to_list(), sha256 = "{SHA}", strip_prefix = "a\tb")
''',
            },
        )
    )
    assert archive.urls == ("https://a.example/x.zip",)
    assert archive.strip_prefix == "a\tb"


def test_errors_are_told_with_file_and_line(tmp_path):
    path = tree(
        tmp_path,
        {"WORKSPACE": 'load("//sub:m.bzl", "more")\nmore()\n', "sub/m.bzl": "\n\ndef more():\n    return 1 + None\n"},
    )
    with pytest.raises(WorkspaceError, match="//:WORKSPACE, line 2: Operation"):
        lock_tree(path, nothing)


@pytest.mark.parametrize(
    ("workspace", "complaint"),
    [
        ("http_archive(name = ", "line 1: Parse error"),
        ('load("@nowhere//:x.bzl", "x")\n', "before a repository 'nowhere' is declared"),
        ('load("//:gone.bzl", "x")\n', "does not exist"),
        ('load("//../../etc:passwd", "x")\n', "does not exist"),
        ('load("//:loop.bzl", "x")\n', "loads itself"),
        ('fail("the tree says no")\n', "the tree says no"),
        ('load("//:empty.bzl", "x")\n', "x"),
        ('git_repository(name="g", remote="https://a.example/g.git")\nload("@g//:x.bzl", "x")\n', "is not an archive"),
        ("undefined_function_of_nobody.attribute()\nfail('on')\n", "on"),
    ],
)
def test_a_workspace_that_cannot_be_evaluated_is_a_workspace_error(tmp_path, workspace, complaint):
    path = tree(tmp_path, {"WORKSPACE": workspace, "empty.bzl": "", "loop.bzl": 'load("//:loop.bzl", "x")\n'})
    with pytest.raises(WorkspaceError, match=complaint):
        lock_tree(path, nothing)


@given(text=st.text())
def test_any_text_in_place_of_a_workspace_ends_in_a_lock_or_in_words(tmp_path_factory, text):
    path = tree(tmp_path_factory.mktemp("any"), {})
    (path / "WORKSPACE").write_bytes(text.encode("utf-8", "replace"))
    try:
        lock_tree(path, nothing)
    except NpuServingError as error:
        assert error.what


def test_an_archive_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "dep.tar.gz").write_bytes(b"\x1f\x8b broken")
    path = tree(
        tmp_path,
        {
            "WORKSPACE": f'http_archive(name="dep", url="https://a.example/dep.tar.gz", '
            f'sha256="{SHA}")\nload("@dep//:m.bzl", "x")\n'
        },
    )
    with pytest.raises(WorkspaceError, match=r"dep\.tar\.gz can't be read"):
        lock_tree(path, lambda archive: tmp_path / "dep.tar.gz")


def test_a_directory_without_a_workspace_is_no_tree(tmp_path):
    with pytest.raises(SourceError, match="no file WORKSPACE"):
        lock_tree(tmp_path, nothing)


# ---- the sample, and the command


@pytest.fixture(scope="module")
def filled_store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("archives")
    store = ContentStore(tmp_path_factory.mktemp("store"))
    for path in build_archives(directory):
        store.adopt(path, hashlib.sha256(path.read_bytes()).hexdigest())
    return store


def test_the_lock_of_the_sample_agrees_with_its_tree(filled_store):
    report = lock_deps(SAMPLE, SAMPLE_LOCK, filled_store, offline=True, check=True)
    assert report.differences == ()
    assert report.exit_code == 0
    assert "agrees with the tree" in report.text()


def test_the_sample_re_declares_absl_as_serving_does(filled_store):
    absl = [item for item in read_lock(SAMPLE_LOCK).archives if item.name == "com_google_absl"]
    assert sorted(item.shadowed for item in absl) == [False, True]


def test_a_tree_that_changed_is_told_apart_from_its_lock(filled_store, tmp_path):
    import shutil

    copy = tmp_path / "serving"
    shutil.copytree(SAMPLE, copy)
    file = copy / "tensorflow_serving" / "workspace.bzl"
    file.write_text(file.read_text().replace("v1.1.0.zip", "v1.2.0.zip"))
    report = lock_deps(copy, SAMPLE_LOCK, filled_store, offline=True, check=True)
    assert report.exit_code == 3
    assert any("v1.2.0.zip" in line for line in report.differences)
    assert not report.written
    own = tmp_path / "own.json"
    written = lock_deps(copy, own, filled_store, offline=True, facts=read_lock(SAMPLE_LOCK))
    assert written.written
    assert len(read_lock(own).needed("linux-x86_64-cpu")) == len(read_lock(SAMPLE_LOCK).needed("linux-x86_64-cpu"))
    assert lock_deps(copy, own, filled_store, offline=True, check=True).exit_code == 0
    assert differences(read_lock(own), read_lock(SAMPLE_LOCK))


def test_writing_the_lock_of_an_unchanged_tree_changes_nothing(filled_store, tmp_path):
    own = tmp_path / "own.json"
    own.write_bytes(SAMPLE_LOCK.read_bytes())
    report = lock_deps(SAMPLE, own, filled_store, offline=True)
    assert not report.written
    assert report.to_json()["differences"] == []


def test_without_the_archives_and_offline_it_says_which_are_missing(tmp_path):
    with pytest.raises(FetchError, match="org_tensorflow"):
        lock_deps(SAMPLE, SAMPLE_LOCK, ContentStore(tmp_path / "store"), offline=True, check=True)


def test_checking_without_a_lock_is_refused(filled_store, tmp_path):
    with pytest.raises(LockFileError, match=r"none\.json does not exist"):
        lock_deps(SAMPLE, tmp_path / "none.json", filled_store, offline=True, check=True)


# ---- what a tree says in plain text

COMMIT = "590d6eef7e91a6a7392c8ffffb7b58f2e0c8bc6b"
OTHER_COMMIT = "daa346be59a61f1396a641dd4453dd6c8c1200a6"
OF_TENSORFLOW = """
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
load("@bazel_tools//tools/build_defs/repo:git.bzl", "git_repository")
{text}
"""


@pytest.mark.parametrize("text", ["", "\n", " \n\n", "latest\n", "\ufeff"])
def test_a_bazelversion_file_without_a_version_is_as_good_as_none(tmp_path, text):
    path = tree(tmp_path, {"WORKSPACE": "", ".bazelversion": text})
    assert lock_tree(path, nothing).lock.serving_version == "1.15.0"


@pytest.mark.parametrize(
    "text",
    [
        f'git_repository(name = "org_tensorflow", remote = "https://a.example/t.git", commit = "{COMMIT}")',
        f"git_repository(commit='{COMMIT}', remote='https://a.example/t.git', name='org_tensorflow')",
        f'http_archive(name = "org_tensorflow", urls = ["https://a.example/{COMMIT}.tar.gz"], sha256 = "{SHA}")',
        f'http_archive(name = "org_tensorflow", url = "https://a.example/tf.tar.gz",\n  sha256 = "{SHA}",'
        f' strip_prefix = "tensorflow-{COMMIT}")',
        f'C = "{COMMIT}"\nhttp_archive(name = "org_tensorflow", sha256 = "{SHA}", '
        'urls = ["https://a.example/%s.zip" % C])',
        f'# commit = "{OTHER_COMMIT}"\ngit_repository(name = "other", remote = "r", commit = "{OTHER_COMMIT}")\n'
        f'git_repository(name = "org_tensorflow", remote = "r", commit = "{COMMIT}")  # was {OTHER_COMMIT}',
        f'git_repository(name = "org_tensorflow", remote = "r", commit = "{OTHER_COMMIT}")\n'
        f'git_repository(name = "org_tensorflow", remote = "r", commit = "{COMMIT}")',
        f'git_repository(name = "org_tensorflow", remote = "r", commit = "{COMMIT}")\n'
        'load("@bazel_tools//tools/build_defs/repo:java.bzl", "java_import_external")\n'
        f'git_repository(name = "org_tensorflow", remote = "r", commit = "{OTHER_COMMIT}")',
    ],
)
def test_the_commit_of_tensorflow_is_read_however_it_is_declared_and_the_lock_has_the_same(tmp_path, text):
    path = tree(tmp_path, {"WORKSPACE": OF_TENSORFLOW.format(text=text)})
    assert tensorflow_commit(path) == COMMIT
    assert lock_tree(path, nothing).lock.tensorflow_commit == COMMIT


def test_the_commit_that_the_sample_pins_is_that_of_its_lock():
    assert tensorflow_commit(SAMPLE) == read_lock(SAMPLE_LOCK).tensorflow_commit != ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "this is no Starlark (",
        "\0",
        "(" * 5000,
        'http_archive(name = "org_tensorflow", sha256 = "' + "a" * 64 + '", urls = ["https://a.example/1.zip"])',
        'git_repository(name = "org_tensorflow", tag = "v1")',
        "A = B\nB = A\ngit_repository(name = 'org_tensorflow', commit = A)",
        'x(name = "\\d")',
    ],
)
def test_where_a_workspace_tells_no_commit_there_is_none(tmp_path, text):
    assert tensorflow_commit(tree(tmp_path, {"WORKSPACE": text})) == ""


@given(st.text())
def test_no_workspace_breaks_the_search_for_the_commit(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("tree")
    (root / "WORKSPACE").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert tensorflow_commit(root) == ""


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"WORKSPACE": ""}, "0.24.1"),
        ({"WORKSPACE": "", ".bazelversion": "3.7.2\n"}, "3.7.2"),
        ({"WORKSPACE": 'load("//:v.bzl", "versions")\nversions.check("5.3.0")\n'}, "5.3.0"),
        ({"WORKSPACE": 'check_bazel_version_at_least("0.19.0")\n# versions.check("9.9.9")\n'}, "0.24.1"),
        ({"WORKSPACE": "check_bazel_version_at_least('0.15.0')\nversions.check('1.2.10')\n"}, "1.2.10"),
    ],
)
def test_a_tree_is_evaluated_as_by_the_bazel_that_it_asks_for(tmp_path, files, version):
    assert bazel_version(tree(tmp_path, files)) == version


def test_a_version_is_told_only_where_all_three_parts_are_there(tmp_path):
    path = tree(tmp_path, {"WORKSPACE": ""})
    assert serving_version(path) == "1.15.0"
    header = path / "tensorflow_serving/model_servers/version.h"
    header.write_text(header.read_text().replace("PATCH", "PITCH"))
    assert serving_version(path) == ""
    header.unlink()
    assert serving_version(path) == ""
    assert tensorflow_commit(tmp_path / "nowhere") == ""
