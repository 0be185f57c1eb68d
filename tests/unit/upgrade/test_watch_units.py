"""The systemd units of the watch: what systemd reads in them is what was meant, as the real systemd-analyze tells."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from cann_trees import SITE, make_cann
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving import process
from npu_serving.errors import RequestError
from npu_serving.settings import PROJECT_ROOT, SETTINGS_FILE, Settings
from npu_serving.upgrade.watch_units import PATH_UNIT, SERVICE, render_watch_units
from npu_serving.writers.systemd import systemd_argument, systemd_line, systemd_word

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (apt-get install systemd)"
)
VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, blacklist_categories=["Cc", "Cs", "Zl", "Zp"])
    | st.sampled_from("%$\\\"' ;{}"),
    max_size=20,
)
WORST = "a 100% \"b\" 'c' $HOME ${X} \\d %h é漢"


def read_by_systemd(directory: Path, *units: str) -> str:
    """What systemd has understood of these units; any complaint of its is a failure."""
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_LOG_LEVEL": "debug", "LC_ALL": "C.UTF-8"}
    words = ["systemd-analyze", "verify", "--man=no", *(str(directory / unit) for unit in units)]
    done = process.run(words, env=environment)
    about_ours = [line for line in done.stderr.splitlines() if any(f"{unit}:" in line for unit in units)]
    complaints = [line for line in about_ours if re.search(r"Unknown|Failed|ignoring|not executable|Invalid|bad", line)]
    assert complaints == []
    return done.stdout


def arguments_in(dump: str) -> list[list[str]]:
    """The command lines of a dump, in which `$$` stands for the `$` that the program will get."""
    lines = re.findall(r"^\s*Command Line: (.*)$", dump, re.MULTILINE)
    # In double quotes a shell takes a backslash from before $ and `, which shlex leaves there.
    return [[re.sub(r"\\([$`])", r"\1", word) for word in shlex.split(line)] for line in lines]


@needs_systemd
def test_both_units_are_read_as_they_were_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cann = make_cann(tmp_path / WORST / "Ascend")
    settings_file = tmp_path / WORST / "invoke.yaml"
    monkeypatch.setenv(SETTINGS_FILE, str(settings_file))
    result = render_watch_units(Settings(cann_root=str(cann)), tmp_path / "units", act=True, user="nobody")
    dump = read_by_systemd(tmp_path / "units", PATH_UNIT, SERVICE)
    watched = re.findall(r"^\s*PathChanged: (.*)$", dump, re.MULTILINE)
    adapter = cann / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so"
    assert {str(cann), str(cann / "tfplugin"), str(cann / "ascend-toolkit"), str(adapter)} <= set(watched)
    assert f"Environment: {SETTINGS_FILE}={settings_file}\n" in dump
    assert f"WorkingDirectory: {PROJECT_ROOT}\n" in dump
    assert "User: nobody\n" in dump
    inv = str(PROJECT_ROOT / "inv")
    assert ["/usr/bin/env", "bash", inv, "rebuild-after-cann", "--watch", "--once", "--act"] in arguments_in(dump)
    assert "systemctl daemon-reload" in result.text()


@needs_systemd
@settings(max_examples=examples(5, 500))
@given(st.lists(VALUES, min_size=40, max_size=60))
def test_what_is_written_for_systemd_is_what_it_reads(
    tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("units")
    paths = [f"/{value}" for value in values if "/" not in value and value not in ("", ".", "..")]
    lines = ["[Service]", "Type=oneshot", *(f"Environment={systemd_word(f'A{n}=/{v}')}" for n, v in enumerate(values))]
    lines += [f"ExecStart=/usr/bin/env {systemd_argument(value)}" for value in values]
    (directory / "npu-test.service").write_text("\n".join(lines))
    kept = {}
    for path in paths:
        try:
            kept[path] = f"PathChanged={systemd_line(path)}"
        except RequestError:
            assert path != path.strip() or path.endswith("\\")
    (directory / "npu-test.path").write_text("\n".join(["[Path]", "PathExists=/", *kept.values()]))
    dump = read_by_systemd(directory, "npu-test.path", "npu-test.service")
    assert [words[1:] for words in arguments_in(dump)] == [[value.replace("$", "$$")] for value in values]
    environment = dict(re.findall(r"^\s*Environment: (A\d+)=/(.*)$", dump, re.MULTILINE))
    assert environment == {f"A{number}": value for number, value in enumerate(values)}
    assert sorted(re.findall(r"^\s*PathChanged: (.*)$", dump, re.MULTILINE)) == sorted(kept)


@pytest.mark.parametrize("value", ["a\nExecStart=/bin/rm", "a\0", "\x7f", "\x85", "\udcff"])
def test_what_a_unit_file_can_not_hold_is_refused(value: str) -> None:
    for write in (systemd_line, systemd_word, systemd_argument):
        with pytest.raises(RequestError, match="systemd unit"):
            write(value)


@pytest.mark.parametrize("value", [" /a", "/a ", "/a\\", "/a\u3000"])
def test_a_line_can_not_hold_blanks_or_a_backslash_at_its_end(value: str) -> None:
    with pytest.raises(RequestError, match="with a space"):
        systemd_line(value)
    assert systemd_word(value).startswith('"')


def test_rendering_twice_changes_nothing_and_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    wanted = Settings(cann_root=str(make_cann(tmp_path / "Ascend")))
    target = tmp_path / "new/units"
    planned = render_watch_units(wanted, target, dry_run=True)
    assert (planned.changed, target.exists()) == ((PATH_UNIT, SERVICE), False)
    assert "PathChanged=" in planned.text()
    assert render_watch_units(wanted, target).changed == (PATH_UNIT, SERVICE)
    again = render_watch_units(wanted, target)
    assert again.changed == ()
    assert "(unchanged)" in again.text()
    assert render_watch_units(wanted, target, act=True).changed == (SERVICE,)


def test_where_no_cann_is_yet_the_place_is_watched_where_it_will_be(tmp_path: Path) -> None:
    units = render_watch_units(Settings(cann_root=str(tmp_path / "later")), tmp_path / "units").units
    assert f"PathChanged={tmp_path}/later/tfplugin\n" in units[PATH_UNIT]
    units = render_watch_units(Settings(adapter=str(tmp_path / "a.so")), tmp_path / "units").units
    assert units[PATH_UNIT].count("PathChanged=") == 1


def test_what_of_the_environment_leads_to_cann_and_to_the_settings_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cann = make_cann(tmp_path / "opt")
    home = str(cann / "ascend-toolkit/latest")
    monkeypatch.setenv("ASCEND_HOME_PATH", home)
    monkeypatch.setenv("SECRET", "x")
    units = render_watch_units(Settings(), tmp_path / "units").units
    assert f"PathChanged={cann}/tfplugin\n" in units[PATH_UNIT]
    assert f'Environment="ASCEND_HOME_PATH={home}"\n' in units[SERVICE]
    assert "SECRET" not in units[SERVICE]


def test_a_user_who_does_not_exist_and_the_sample_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no installer"):
        render_watch_units(Settings(adapter="sample"), tmp_path)
    with pytest.raises(RequestError, match="user 'nobody at all' does not exist"):
        render_watch_units(Settings(), tmp_path, user="nobody at all")
