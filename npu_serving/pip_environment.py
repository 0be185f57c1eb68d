"""pip with the person's indexes, proxies and certificates, and none of their settings that put packages elsewhere.

`./inv` runs this as a program before anything is installed, so only the standard library is here: it runs pip with the
words it is given, and looks then whether the packages of --requirement are really there.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

# pip's own settings of where packages come from; every other one (target, user, prefix, root, no-deps, constraint ...)
# would change what is installed or where (pip's documentation, "Configuration").
KEPT = (
    "cache-dir",
    "cert",
    "client-cert",
    "default-timeout",
    "extra-index-url",
    "find-links",
    "index-url",
    "keyring-provider",
    "no-index",
    "proxy",
    "retries",
    "timeout",
    "trusted-host",
)
_SECTIONS = ("global", "install", "download")  # each overrides those before it


def pip_environment(environment: Mapping[str, str], python: str = sys.executable) -> dict[str, str]:
    """What pip is to be started with: `environment` without Python's and pip's variables, but for pip's sources.

    What pip's configuration files say of the sources is in it as well; the files themselves are not read again.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "PIP_"))}
    for key, value in _configured(environment, python):
        kept[_variable(key)] = value
    kept.update({name: environment[name] for name in map(_variable, KEPT) if environment.get(name)})
    kept |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    return kept


def missing_packages(requirements: str) -> list[str]:
    """The lines NAME==VERSION of a requirements file that this Python needs and does not have."""
    from importlib import metadata

    from pip._vendor.packaging.requirements import Requirement

    missing = []
    for line in re.sub(r"\\\n", " ", requirements).splitlines():
        text = line.partition(" --hash")[0].partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            present = metadata.version(wanted.name) in wanted.specifier
        except metadata.PackageNotFoundError:
            present = False
        if not present:
            missing.append(f"{wanted.name}{wanted.specifier}")
    return missing


def main(words: Sequence[str]) -> int:
    """Runs `pip WORDS`; its exit code, or 1 where it succeeded and packages are missing all the same."""
    done = subprocess.run([sys.executable, "-I", "-m", "pip", *words], env=pip_environment(os.environ), check=False)
    if done.returncode != 0 or "--requirement" not in words:
        return done.returncode
    with open(words[words.index("--requirement") + 1], encoding="utf-8") as file:
        missing = missing_packages(file.read())
    for package in missing:
        print(f"pip succeeded, but {package} is not in {sys.prefix}", file=sys.stderr)
    return 1 if missing else 0


def _configured(environment: Mapping[str, str], python: str) -> Iterator[tuple[str, str]]:
    """The sources in pip's configuration files, those that override others last."""
    plain = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    listed = subprocess.run(
        [python, "-I", "-m", "pip", "config", "list"],
        env=plain,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed.stdout.splitlines() if listed.returncode == 0 else ():
        name, equals, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if equals and section in found and key in KEPT:
            found[section][key] = _plain(value)
    for section in _SECTIONS:
        yield from found[section].items()


def _plain(shown: str) -> str:
    """The value that pip shows as Python writes it; several on lines of their own are apart by blanks in a variable."""
    try:
        value = str(ast.literal_eval(shown))
    except (SyntaxError, ValueError):
        value = shown
    return " ".join(value.split())


def _variable(key: str) -> str:
    return f"PIP_{key.upper().replace('-', '_')}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
