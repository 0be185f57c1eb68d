"""The lock file: what it holds for 1.15.0, that it is read back as written, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import LockFileError
from npu_serving.lock.comparing import differences
from npu_serving.lock.lockfile import (
    Archive,
    Lock,
    OtherRepository,
    parse_lock,
    read_lock,
    render_lock,
    with_known_facts,
    write_lock,
)
from npu_serving.settings import PROJECT_ROOT

X86 = "linux-x86_64-cpu"
ARM = "linux-aarch64-cpu"
REAL = PROJECT_ROOT / "locks" / "serving-1.15.0.json"
THING = Archive("thing", "http_archive", ("https://host.example/a/v1.0.zip",), "0" * 64)
SOURCE = Archive("tf_serving", "source", ("https://host.example/1.15.0.tar.gz",), "1" * 64)
LOCK = Lock("1.15.0", "c" * 40, SOURCE, (THING,))


@pytest.fixture(scope="module")
def real():
    return read_lock(REAL)


# ---- the lock of 1.15.0


def test_the_lock_of_1_15_0_has_91_archives_of_90_names(real):
    assert len(real.archives) == 91
    assert len({archive.name for archive in real.archives}) == 90


def test_the_server_needs_35_archives_and_llvm_for_xla_cpu_jit(real):
    assert len(real.needed(X86)) == 36
    assert {archive.name for archive in real.needed(X86) if archive.only_with == "xla_cpu_jit"} == {"llvm"}


def test_on_aarch64_neither_nasm_nor_mkl_dnn_is_needed(real):
    names = [{archive.name for archive in real.needed(platform)} for platform in (X86, ARM)]
    assert names[0] - names[1] == {"nasm", "mkl_dnn"}
    assert names[1] <= names[0]


def test_servings_own_absl_shadows_that_of_tensorflow(real):
    absl = {archive.shadowed: archive for archive in real.archives if archive.name == "com_google_absl"}
    assert absl[False].file_name == "36d37ab992038f52276ca66b9da80c1cf0f57dc2.tar.gz"
    assert absl[True].needed_by == ()


def test_the_seven_archives_of_the_guide_are_needed_under_the_names_of_its_table_6_4(real):
    names = {archive.file_name for archive in real.needed(X86)}
    assert names >= {
        "590d6eef7e91a6a7392c8ffffb7b58f2e0c8bc6b.tar.gz",
        "316e6133888bfc39fb860a4f1a31cfcbae485aef.tar.gz",
        "0.7.0.tar.gz",
        "v1.1.0.zip",
        "36d37ab992038f52276ca66b9da80c1cf0f57dc2.tar.gz",
        "release-2.1.8-stable.zip",
        "7a7e03f906aada0cf4b749b51213fe5784eeff84.tar.gz",
    }


def test_every_archive_of_1_15_0_has_a_digest_and_safe_urls(real):
    assert all(archive.sha256 for archive in (*real.archives, real.source))


def test_package_indexes_are_left_out_only_of_archives_that_the_server_does_not_need(real):
    shortened = [archive for archive in real.archives if archive.urls_left_out]
    assert "gast_archive" in {archive.name for archive in shortened}
    assert all(archive.needed_by == () for archive in shortened)


def test_the_lock_in_the_repository_is_in_the_form_that_is_written(real):
    assert render_lock(real) == REAL.read_text()


# ---- the format


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,10}", fullmatch=True)
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=12)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
urls = st.builds(
    lambda host, name: f"https://{host}.example/{name}", st.from_regex("[a-z]{1,8}", fullmatch=True), names
)
archives = st.builds(
    Archive,
    name=names,
    rule=texts,
    urls=st.lists(urls, min_size=1, max_size=3).map(tuple),
    sha256=digests,
    size_bytes=st.none() | st.integers(1, 2**60),
    strip_prefix=texts,
    build_file=texts,
    patch_files=st.lists(texts.filter(bool), max_size=2).map(tuple),
    needed_by=st.lists(st.sampled_from([X86, ARM]), max_size=2, unique=True).map(tuple),
    only_with=texts,
    shadowed=st.booleans(),
    pinned_here=st.booleans(),
    urls_left_out=st.integers(0, 3),
)
locks = st.builds(
    Lock,
    serving_version=texts,
    tensorflow_commit=texts,
    source=archives,
    archives=st.lists(archives, max_size=4, unique_by=lambda item: item.file_name).map(tuple),
    others=st.lists(st.builds(OtherRepository, names, texts, texts, texts, st.booleans()), max_size=2).map(tuple),
    platform_sources=st.dictionaries(st.sampled_from([X86, ARM]), texts),
)


@given(locks)
def test_what_is_written_is_read_back(lock):
    text = render_lock(lock)
    again = parse_lock(text)
    assert set(again.archives) == set(lock.archives)
    assert set(again.others) == set(lock.others)
    assert again.digest == lock.digest
    assert render_lock(again) == text


@given(locks)
def test_the_order_of_declaration_does_not_show(lock):
    turned = dataclasses.replace(lock, archives=lock.archives[::-1], others=lock.others[::-1])
    if len({(item.name, item.shadowed) for item in lock.others}) == len(lock.others):
        assert render_lock(turned) == render_lock(lock)


@given(st.text())
def test_any_text_is_a_lock_or_a_lock_file_error(text):
    with pytest.raises(LockFileError):
        parse_lock(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["name", "urls", "sha256", "rule", "size_bytes", "file_name", "shadowed"]), inner
            )
        ),
    )
)
def test_any_value_in_place_of_an_archive_is_refused_in_words(value):
    document = json.loads(render_lock(LOCK))
    document["archives"] = [value]
    with pytest.raises(LockFileError):
        parse_lock(json.dumps(document))


def changed(**fields) -> str:
    document = json.loads(render_lock(LOCK))
    document["archives"][0].update(fields)
    return json.dumps(document, indent=2)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"sha256": "abc"}, "sha256"),
        ({"sha256": "A" * 64}, "sha256"),
        ({"sha265": "0" * 64}, "sha265: unknown key"),
        ({"urls": []}, "urls: must have 1 item"),
        ({"urls": ["file:///etc/passwd"]}, "whose scheme"),
        ({"urls": ["https:///x"]}, "has no host"),
        ({"urls": ["https://host.example/.bashrc"], "file_name": ".bashrc"}, "must be 'thing'"),
        ({"file_name": "../v1.0.zip"}, "file_name"),
        ({"name": "../thing"}, "must be a repository's name"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"size_bytes": True}, "size_bytes"),
        ({"needed_by": ["linux"]}, "must be a platform"),
        ({"needed_by": "linux-x86_64-cpu"}, "must be a list"),
        ({"shadowed": 1}, "true or false"),
        ({"rule": "two\nlines"}, "single line"),
    ],
)
def test_a_field_that_cannot_be_meant_is_named_with_its_place(fields, complaint):
    with pytest.raises(LockFileError, match=complaint) as caught:
        parse_lock(changed(**fields), "my.json")
    assert re.match(r"my\.json:\d+:\d+: archives\[0\]", caught.value.what)


def test_every_mistake_of_a_lock_is_told_at_once():
    document = json.loads(render_lock(LOCK))
    document["archives"][0] |= {"sha256": "abc", "size_bytes": 0}
    document["source"]["urls"] = ["nowhere"]
    with pytest.raises(LockFileError) as caught:
        parse_lock(json.dumps(document, indent=2))
    assert len(caught.value.what.split("\n")) == 3


def test_two_files_may_want_one_name_for_bazel_has_the_repository_cache():
    other = Archive("other", "http_archive", ("https://other.example/v1.0.zip",), "2" * 64)
    lock = dataclasses.replace(LOCK, archives=(other, THING))
    assert parse_lock(render_lock(lock)) == lock


@pytest.mark.parametrize("end", ["", "?mode=json&include=all", ".bashrc", "a;b c", "..", "-rf", "%2e%2e", "a" * 300])
def test_a_url_that_ends_in_no_name_for_a_file_gives_it_the_name_of_its_repository(end):
    archive = dataclasses.replace(THING, urls=(f"https://host.example/dl/{end}", THING.urls[0]))
    assert archive.file_name == ("%2e%2e" if end == "%2e%2e" else "thing")
    lock = dataclasses.replace(LOCK, archives=(archive,))
    assert parse_lock(render_lock(lock)) == lock


def test_a_field_given_twice_is_refused():
    text = render_lock(LOCK).replace('"name": "thing"', '"name": "thing", "name": "thing"')
    with pytest.raises(LockFileError, match="twice"):
        parse_lock(text)


def test_json_that_is_broken_off_is_named_by_line_and_column():
    with pytest.raises(LockFileError, match=r"the lock:\d+:\d+: this is not valid JSON"):
        parse_lock(render_lock(LOCK)[:-20])


def test_a_lock_of_another_format_is_refused():
    with pytest.raises(LockFileError, match=r"format: is 2, and this program reads format 1"):
        parse_lock(render_lock(LOCK).replace('"format": 1', '"format": 2'))


def test_a_lock_that_is_not_there_is_answered_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(LockFileError) as caught:
        read_lock(tmp_path / "none.json")
    assert "lock-deps" in caught.value.cure


def test_writing_the_same_lock_again_changes_nothing(tmp_path):
    assert write_lock(tmp_path / "lock.json", LOCK)
    assert not write_lock(tmp_path / "lock.json", LOCK)


def test_a_need_is_carried_over_with_the_bytes_and_what_nobody_measured_counts_as_needed():
    known = dataclasses.replace(
        LOCK,
        archives=(dataclasses.replace(THING, size_bytes=5, needed_by=(X86,), only_with="xla_cpu_jit"),),
        platform_sources={X86: "measured", ARM: "measured"},
    )
    for archive, size, needed in (
        (THING, 5, (X86,)),
        (dataclasses.replace(THING, sha256="3" * 64), None, (ARM, X86)),
        (dataclasses.replace(THING, name="renamed"), 5, (ARM, X86)),
        (dataclasses.replace(THING, shadowed=True), 5, ()),
    ):
        carried = with_known_facts(dataclasses.replace(LOCK, archives=(archive,)), known).archives[0]
        assert (carried.size_bytes, carried.needed_by) == (size, needed)
        assert carried.only_with == ("xla_cpu_jit" if needed == (X86,) else "")


def test_a_url_that_the_lock_leaves_out_stays_out_as_long_as_the_tree_declares_the_same():
    first, index, last = "https://a.example/v1.zip", "https://index.example/v1.zip", "https://b.example/v1.zip"
    known = dataclasses.replace(
        LOCK, archives=(dataclasses.replace(THING, urls=(first, last), urls_left_out=1, size_bytes=5),)
    )
    for urls, left_out in (
        ((first, index, last), 1),
        ((first, "https://other.example/v1.zip", last), 1),
        ((first, index, last, "https://more.example/v1.zip"), 0),
        ((first, last), 0),
        ((index, first, last), 0),
        ((first, last, "https://c.example/v1.zip"), 1),
    ):
        declared = dataclasses.replace(LOCK, archives=(dataclasses.replace(THING, urls=urls),))
        carried = with_known_facts(declared, known)
        assert carried.archives[0].urls_left_out == left_out
        assert (carried == known) == bool(left_out) == (differences(known, carried) == ())
    other_bytes = dataclasses.replace(
        LOCK, archives=(dataclasses.replace(THING, urls=(first, index, last), sha256="3" * 64),)
    )
    assert with_known_facts(other_bytes, known).archives[0].urls_left_out == 0
