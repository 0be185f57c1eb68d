"""What the WORKSPACE files of other versions of TensorFlow Serving do beyond those of 1.15.0, in small."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path

import pytest

from npu_serving.errors import WorkspaceError
from npu_serving.lock.lockfile import Lock
from npu_serving.lock.workspace import lock_tree

SHA, OTHER = "a" * 64, "b" * 64
VERSION = "".join(
    f"#define TF_MODELSERVER_{part}_VERSION {number}\n" for part, number in (("MAJOR", 2), ("MINOR", 8), ("PATCH", 0))
)
HTTP = 'load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive", "http_file", "http_jar")\n'

REPO = """
def _label_paths(ctx, links):
    return {ctx.path(to): ctx.path(Label(at)) for at, to in links.items()}

def _patched_archive_impl(ctx):
    links = _label_paths(ctx, ctx.attr.links)
    for patch in ctx.attr.patches:
        if patch:
            ctx.path(Label(patch))
    ctx.download_and_extract(url = ctx.attr.urls, sha256 = ctx.attr.sha256, stripPrefix = ctx.attr.strip_prefix)
    for patch in ctx.attr.patches:
        ctx.patch(ctx.path(Label(patch)), strip = 1)
    for to, at in links.items():
        ctx.delete(to)
        ctx.symlink(at, to)

_patched_archive = repository_rule(
    implementation = _patched_archive_impl,
    attrs = {
        "sha256": attr.string(mandatory = True),
        "urls": attr.string_list(mandatory = True),
        "strip_prefix": attr.string(),
        "patches": attr.string_list(),
        "links": attr.string_dict(),
    },
    environ = ["SYSTEM_LIBRARIES"],
)

def patched_archive(name, sha256, urls, **kwargs):
    if len(urls) < 2:
        fail("give two URLs")
    if native.existing_rule(name):
        print("skipping", name)
        return
    _patched_archive(name = name, sha256 = sha256, urls = urls, **kwargs)

def _part_impl(ctx):
    place = ctx.path(ctx.attr.parent).dirname
    for piece in ctx.attr.directory.split("/"):
        place = place.get_child(piece)
    ctx.symlink(place, ".")

part_of_this = repository_rule(
    implementation = _part_impl,
    attrs = {"parent": attr.label(default = "//:WORKSPACE"), "directory": attr.string()},
)

def _settings_impl(ctx):
    ctx.file("BUILD", "")
    wanted = ctx.os.environ.get("WANTED_VERSION", "")
    if wanted not in ["1", "2"]:
        wanted = "2"
    ctx.file("settings.bzl", content = 'WANTED = "{}"\\n'.format(wanted))
    ctx.template("from_template.bzl", Label("//:rules.bzl.tpl"), substitutions = {"NAME": "from_a_template"})

settings = repository_rule(implementation = _settings_impl, local = True)
"""
LIBRARY = {
    "lib-1/repo.bzl": REPO,
    "lib-1/rules.bzl.tpl": f"""
def declare():
    native.http_archive(name = "NAME", url = "https://a.example/n.zip", sha256 = "{SHA}")
""",
    "lib-1/vendored/inner/more.bzl": f"""
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
def workspace():
    http_archive(name = "inner", url = "https://a.example/inner.zip", sha256 = "{SHA}")
""",
    "lib-1/first.bzl": f"""
load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")
load("@bazel_tools//tools/build_defs/repo:utils.bzl", "maybe")
load("//:repo.bzl", "patched_archive")
def workspace():
    maybe(name = "cc_rules", repo_rule = http_archive, url = "https://a.example/cc.zip", sha256 = "{SHA}")
    maybe(http_archive, "cc_rules", url = "https://a.example/other.zip", sha256 = "{OTHER}")
    patched_archive(
        name = "patched", sha256 = "{SHA}", urls = ["https://mirror.example/p.tgz", "https://a.example/p.tgz"],
        strip_prefix = "p-1", patches = ["//third_party:one.patch", str(Label("//third_party:two.patch"))],
        links = {{"//third_party:x.BUILD": "x/BUILD"}},
    )
""",
    "lib-1/second.bzl": f"""
load("//:repo.bzl", "patched_archive")
def workspace():
    patched_archive(name = "patched", sha256 = "{OTHER}", urls = ["https://b.example/q.tgz", "https://a.example/q.tgz"])
""",
}  # fmt: skip


def locked(root: Path, workspace: str, **files: str) -> Lock:
    texts = {"WORKSPACE": workspace, "tensorflow_serving/model_servers/version.h": VERSION, **files}
    for name, text in texts.items():
        path = root / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with zipfile.ZipFile(root / "lib.zip", "w") as archive:
        for name, text in LIBRARY.items():
            archive.writestr(name, text)
    return lock_tree(root / "tree", lambda archive: root / archive.file_name).lock


def library() -> str:
    return (
        HTTP
        + f'http_archive(name = "lib", url = "https://a.example/lib.zip", sha256 = "{SHA}", strip_prefix = "lib-1")\n'
    )


def named(lock: Lock):
    return {archive.name: archive for archive in lock.archives if not archive.shadowed}


def test_macros_of_one_name_are_loaded_one_after_the_other(tmp_path):
    loads = "".join(f'load("@lib//:{name}.bzl", "workspace")\nworkspace()\n' for name in ("first", "second"))
    found = named(locked(tmp_path, 'workspace(name = "tf_serving")\n' + library() + loads))
    assert found["patched"].urls == ("https://mirror.example/p.tgz", "https://a.example/p.tgz")
    assert found["patched"].strip_prefix == "p-1"
    assert found["patched"].patch_files == ("//third_party:one.patch", "@lib//third_party:two.patch")
    assert found["cc_rules"].file_name == "cc.zip"


def test_a_repository_that_is_a_directory_of_another_one_is_loaded_from(tmp_path):
    text = (
        library()
        + 'load("@lib//:repo.bzl", "part_of_this")\npart_of_this(name = "part", directory = "vendored/inner")\n'
        + 'load("@part//:more.bzl", "workspace")\nworkspace()\n'
    )
    lock = locked(tmp_path, text)
    assert named(lock)["inner"].sha256 == SHA
    assert ("part", "part_of_this") in {(item.name, item.rule) for item in lock.others}


def test_files_that_a_rule_writes_are_loaded_with_the_text_that_it_gives_them(tmp_path, monkeypatch):
    monkeypatch.setenv("WANTED_VERSION", "1")  # which is no business of a lock
    text = (
        library()
        + 'load("@lib//:repo.bzl", "settings")\nsettings(name = "config")\n'
        + 'load("@config//:settings.bzl", "WANTED")\n'
        + f'http_file(name = "v" + WANTED, urls = ["https://a.example/v.txt"], sha256 = "{SHA}")\n'
        + 'load("@config//:from_template.bzl", "declare")\ndeclare()\n'
    )
    assert {"v2", "from_a_template"} <= set(named(locked(tmp_path, text)))


def test_what_existing_rules_tells_of_a_repository_is_its_attributes_and_its_kind(tmp_path):
    text = (
        library()
        + 'load("//:m.bzl", "more")\nmore()\n'
    )  # fmt: skip
    macro = f"""
def more():
    found = native.existing_rules()["lib"]
    if (found["kind"], found["name"], found["sha256"]) != ("http_archive", "lib", "{SHA}"):
        fail(str(found))
    if native.existing_rule("nobody") != None or "nobody" in native.existing_rules():
        fail("nobody is there")
"""
    locked(tmp_path, text, **{"m.bzl": macro})


def test_the_version_of_bazel_that_a_tree_checks_for_is_the_one_it_is_told(tmp_path):
    check = """
def _check(least):
    if [int(part) for part in native.bazel_version.split(".")] < [int(part) for part in least.split(".")]:
        fail("Bazel is too old: " + native.bazel_version)

versions = struct(check = _check)
"""
    locked(tmp_path, 'load("//:versions.bzl", "versions")\nversions.check("5.3.0")\n', **{"versions.bzl": check})


@pytest.mark.parametrize(
    ("declaration", "urls"),
    [
        ('http_file(name = "x", urls = ["https://a.example/x.txt"], sha256 = SHA)', ["https://a.example/x.txt"]),
        ('http_jar(name = "x", url = "https://a.example/x.jar", sha256 = SHA)', ["https://a.example/x.jar"]),
        ('jvm_import_external(name = "x", artifact_urls = ["https://a.example/x.jar"], artifact_sha256 = SHA)',
         ["https://a.example/x.jar"]),
        ('jvm_maven_import_external(name = "x", artifact = "org.group:thing:1.2", artifact_sha256 = SHA, '
         'server_urls = ["https://one.example/maven", "https://two.example/"])',
         ["https://one.example/maven/org/group/thing/1.2/thing-1.2.jar",
          "https://two.example/org/group/thing/1.2/thing-1.2.jar"]),
        ('http_archive(name = "x", url = "https://a.example/x.zip", integrity = INTEGRITY)',
         ["https://a.example/x.zip"]),
    ],
)  # fmt: skip
def test_every_rule_of_bazels_own_that_downloads_is_recorded(tmp_path, declaration, urls):
    java = 'load("@bazel_tools//tools/build_defs/repo:jvm.bzl", "jvm_import_external", "jvm_maven_import_external")\n'
    integrity = "sha256-" + base64.b64encode(bytes.fromhex(SHA)).decode()
    text = f'{HTTP}{java}SHA = "{SHA}"\nINTEGRITY = "{integrity}"\n{declaration}\n'
    archive = named(locked(tmp_path, text))["x"]
    assert (list(archive.urls), archive.sha256) == (urls, SHA)


def test_sources_of_a_maven_artifact_are_an_archive_of_their_own(tmp_path):
    load = 'load("@bazel_tools//tools/build_defs/repo:jvm.bzl", "jvm_maven_import_external")\n'
    text = (
        f'{load}jvm_maven_import_external(name = "x", artifact = "g:a:jar:tests:1.2", artifact_sha256 = "{SHA}", '
        f'server_urls = ["https://m.example"], fetch_sources = True, srcjar_sha256 = "{OTHER}")\n'
    )
    found = [(item.file_name, item.sha256) for item in locked(tmp_path, text).archives]
    assert found == [("a-1.2-tests.jar", SHA), ("a-1.2-sources.jar", OTHER)]


def test_what_only_the_machine_can_tell_ends_in_one_error_that_names_it(tmp_path):
    rule = "def _i(ctx):\n    fail('no network here')\n\nprobe = repository_rule(implementation = _i)\n"
    text = 'load("//:r.bzl", "probe")\nprobe(name = "found_here")\nload("@found_here//:x.bzl", "X")\n'
    with pytest.raises(WorkspaceError, match=r"loads \.bzl files from found_here \(probe\), which is not an archive"):
        locked(tmp_path, text, **{"r.bzl": rule})
