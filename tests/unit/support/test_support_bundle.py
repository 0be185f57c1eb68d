"""The support bundle: what is in it, that no secret is, and that what is broken does not keep it from being made."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.console import Silent
from npu_serving.errors import NpuServingError
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.server_record import RecordKeeper, ServerRecord
from npu_serving.settings import Settings
from npu_serving.support import parts
from npu_serving.support.support_bundle import SupportBundle, support_bundle

SECRETS = {
    "in the environment": "secret-environment-1",
    "AWS_SECRET_ACCESS_KEY": "secret-aws-2",
    "environment of the deployment": "secret-deployment-3",
    "--set": "secret-set-4",
    "a flag": "secret-flag-5",
    "a URL": "secret-url-6",
    "ssl.config": "secret-tls-7",
    "a log": "secret-log-8",
    "a log of CANN": "secret-cann-9",
    "an unknown variable": "secret-unknown-10",
    "a proxy": "secret-proxy-11",
    "a record's end": "secret-end-12",
}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A machine whose every corner holds a secret."""
    settings = Settings(build_root=tmp_path / "build", dist_root=tmp_path / "dist", source="sample")
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("ASCEND_PROCESS_LOG_PATH", raising=False)
    monkeypatch.setenv("CI_JOB_TOKEN", SECRETS["in the environment"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.setenv("MY_COMPANYS_THING", SECRETS["an unknown variable"])
    monkeypatch.setenv("https_proxy", f"http://me:{SECRETS['a proxy']}@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    deployment = tmp_path / "deployment.yaml"
    deployment.write_text(
        "version: 1\nmodels: [{name: m, base_path: /models/m}]\nenvironment:\n"
        f"  MY_MODELS_THING: {SECRETS['environment of the deployment']}\n  TF_NUM_X: '3'\n"
    )
    deployed = DeployedFrom(deployment, (), (f"environment.OTHER_THING={SECRETS['--set']}",))
    rendered = deployed.directory(settings.build_root)
    fsutil.write_file(
        rendered / "environment",
        f"MY_MODELS_THING={SECRETS['environment of the deployment']}\nOTHER={SECRETS['--set']}\n",
    )
    fsutil.write_file(rendered / "ssl.config", f'server_key: "{SECRETS["ssl.config"]}"\n')
    log = settings.logs / "server.log"
    fsutil.write_file(
        log,
        f"{SECRETS['environment of the deployment']} and {SECRETS['AWS_SECRET_ACCESS_KEY']} and {SECRETS['--set']}\n"
        f"Authorization: Bearer {SECRETS['a log']}\nreading s3://key:{SECRETS['a URL']}@bucket/model\nan honest line\n",
    )
    fsutil.write_file(
        home / "ascend/log/debug/plog/plog-1.log",
        f"[ERROR] GE(1) password={SECRETS['a log of CANN']}\n-----BEGIN PRIVATE KEY-----\n{SECRETS['ssl.config']}\n",
    )
    argv = ("server", f"--api_token={SECRETS['a flag']}", f"--model_base_path=http://u:{SECRETS['a URL']}@host/m")
    record = ServerRecord(1, 0, tmp_path, 0.0, uses_npu=True, rest_api_port=8501, argv=argv, deployed=deployed, log=log)
    keeper = RecordKeeper(settings.build_root, record)
    keeper.began(os.getpid())
    keeper.ended(NpuServingError(f"it died: secret={SECRETS[chr(97) + ' record' + chr(39) + 's end']}"))
    return settings


def made(
    state: Settings, tmp_path: Path, *, deployment: Path | None = None, name: str = "b.tar.gz"
) -> tuple[SupportBundle, dict[str, str]]:
    result = support_bundle(state, tmp_path / name, deployment, {}, Silent(), dry_run=False)
    with tarfile.open(result.path) as archive:
        read = {item.name.partition("/")[2]: archive.extractfile(item) for item in archive.getmembers()}
        return result, {name: file.read().decode() for name, file in read.items() if file is not None}


def test_no_secret_is_in_it_wherever_it_was(state: Settings, tmp_path: Path) -> None:
    result, files = made(state, tmp_path, deployment=tmp_path / "deployment.yaml")
    whole = gzip.decompress(result.path.read_bytes()).decode("utf-8", "replace")
    assert {where: secret for where, secret in SECRETS.items() if secret in whole} == {}
    assert "an honest line" in files["logs/server.log"]
    assert "TF_NUM_X: '3'" in files["deployments/0-deployment.yaml"]
    assert json.loads(files["environment.json"])["shown"]["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert "MY_COMPANYS_THING" in json.loads(files["environment.json"])["names_only"]


def test_what_a_supporter_needs_is_in_it_and_the_readme_says_why(state: Settings, tmp_path: Path) -> None:
    result, files = made(state, tmp_path)
    assert result.path.stat().st_mode & 0o777 == 0o600
    wanted = {"versions.json", "limits.json", "environment.json", "doctor.json", "cann-info.json", "status.json"}
    wanted |= {
        "README.txt",
        "servers/8501.json",
        "servers/8501.ended.json",
        "logs/server.log",
        "cann-logs/debug/plog/plog-1.log",
    }
    assert wanted <= set(files), result.missing
    for name, why in result.parts:
        assert f"{name}\n    {why}" in files["README.txt"]
    assert json.loads(files["versions.json"])["python"]
    assert json.loads(files["doctor.json"])["for"] == "all"


def _rendered(state: Settings) -> str:
    return next((state.build_root / "deployments").iterdir()).name


def test_what_can_not_be_had_is_listed_with_its_error_and_the_rest_is_there(
    state: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> object:
        raise ZeroDivisionError(f"a bug with {SECRETS['in the environment']}")

    monkeypatch.setattr(parts, "cann_info", breaks)
    result, files = made(state, tmp_path)
    missing = dict(result.missing)
    assert missing["cann-info.json"] == "ZeroDivisionError: a bug with ***"
    assert "manifest.json" in missing  # there is no build
    assert "it holds the server's private key" in missing.values()
    assert "cann-info.json\n    ZeroDivisionError" in files["README.txt"]
    assert "versions.json" in files


def test_of_a_long_log_the_end_is_taken_from_a_whole_line_on(state: Settings, tmp_path: Path) -> None:
    log = state.logs / "server.log"
    log.write_bytes(b"password=" + SECRETS["a log"].encode() + b"x" * parts.TAIL_BYTES + b"\nlast line\n")
    files = made(state, tmp_path)[1]
    assert files["logs/server.log"].startswith("(the first ")
    assert files["logs/server.log"].endswith("\nlast line\n")
    assert len(files["logs/server.log"]) < 200


def test_only_the_newest_logs_are_taken(state: Settings, tmp_path: Path) -> None:
    for number in range(parts.MOST_LOGS + 5):
        path = state.logs / f"many-{number}.log"
        path.write_text("x")
        os.utime(path, (number, number))
    names = [name for name in made(state, tmp_path)[1] if name.startswith("logs/many-")]
    assert "logs/many-0.log" not in names
    assert len(names) < parts.MOST_LOGS + 1


def test_it_has_a_bound_and_what_is_beyond_that_is_named(
    state: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npu_serving.support.support_bundle.MOST_BYTES", 3000)
    result, files = made(state, tmp_path)
    assert sum(len(text) for name, text in files.items() if name != "README.txt") <= 3000
    assert "doctor.json" in dict(result.missing)


def test_the_same_content_makes_the_same_file(state: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_limits", dict)
    monkeypatch.setattr(parts, "examine", lambda *_, **__: parts_result())
    first = made(state, tmp_path, name="one/b.tar.gz")[0].path.read_bytes()
    assert made(state, tmp_path, name="two/b.tar.gz")[0].path.read_bytes() == first


def parts_result() -> SupportBundle:
    return SupportBundle(Path("x"), (), ())


def test_a_dry_run_lists_the_parts_makes_none_and_refuses_what_the_run_refuses(
    state: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "examine", None)  # would fail where it was called
    result = support_bundle(state, tmp_path / "b.tar.gz", None, {}, Silent(), dry_run=True)
    assert not (tmp_path / "b.tar.gz").exists()
    assert "doctor.json" in dict(result.parts)
    assert "Would write" in result.text()
    for dry_run in (True, False):
        with pytest.raises(NpuServingError):
            support_bundle(state, tmp_path, None, {}, Silent(), dry_run=dry_run)
        with pytest.raises(NpuServingError):
            support_bundle(state, tmp_path / "b", tmp_path / "none.yaml", {}, Silent(), dry_run=dry_run)


def test_the_logs_of_cann_are_taken_from_where_the_variable_says(
    state: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsutil.write_file(tmp_path / "elsewhere/plog/plog-2.log", "EZ9999")
    monkeypatch.setenv("ASCEND_PROCESS_LOG_PATH", str(tmp_path / "elsewhere"))
    files = made(state, tmp_path)[1]
    assert files["cann-logs/plog/plog-2.log"] == "EZ9999"
    assert "cann-logs/debug/plog/plog-1.log" not in files


def test_a_link_among_the_logs_is_not_followed(state: Settings, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    (state.logs / "link.log").symlink_to(tmp_path / "outside")
    assert "logs/link.log" not in made(state, tmp_path)[1]


def test_what_an_earlier_deployment_has_set_and_one_that_is_no_yaml_does_not_get_out(
    state: Settings, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.conf"
    broken.write_text("environment:\n  MY_OWN: secret-broken-1\n bad: [\n")
    (tmp_path / "deployment.yaml").write_text("environment: {MY_MODELS_THING: another}\n")
    old = state.build_root / "deployments/0123456789ab"
    fsutil.write_file(old / "server.env", 'MY_OLD_THING="secret-old-2"\n')
    fsutil.write_file(old / ".ssl.config.left-over", "secret-key-3")
    log = state.logs / "server.log"
    log.write_text("secret-old-2 was refused\n")
    result, files = made(state, tmp_path, deployment=broken)
    whole = "\n".join([*files, *files.values()])
    assert [secret for secret in ("secret-broken-1", "secret-old-2", "secret-key-3") if secret in whole] == []
    assert "it is not valid YAML" in dict(result.missing)["deployments/0-broken.conf"]
    assert files["logs/server.log"] == "*** was refused\n"


def test_nobody_else_may_read_it_at_any_moment(
    state: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    real = os.replace

    def replace(source: str, target: str) -> None:
        modes.append(Path(source).stat().st_mode & 0o777)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    made(state, tmp_path)
    assert modes == [0o600]
