"""The tools that may be fetched, from locks/toolchains.json: which file, for which platform, with which digest."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.errors import LockFileError, MissingToolError
from npu_serving.fetch.transfer import WantedFile
from npu_serving.lock.lockfile import SHA256, file_name_of, is_safe_file_name, url_problem
from npu_serving.settings import PROJECT_ROOT

TOOLCHAINS = PROJECT_ROOT / "locks" / "toolchains.json"
FORMAT = 1
KINDS = ("program", "archive", "sources")
DIGEST_SOURCE = re.compile(r"[^:]+: .+")


@dataclass(frozen=True)
class Tool:
    """One file of one version of a tool. `platform` is like linux-x86_64, or `any` for sources."""

    name: str
    version: str
    platform: str
    kind: str
    """`program` (made executable and run), `archive` (unpacked), or `sources` (built)."""
    sha256: str
    size_bytes: int | None
    """None where no recipe states it."""
    urls: tuple[str, ...]
    digest_from: tuple[str, ...]
    """Who vouches for the digest: `PROJECT: FILE` for a public recipe that pins it, or `measured: HOW`."""

    @property
    def file_name(self) -> str:
        """The last part of the first URL."""
        return file_name_of(self.urls[0])

    def serves(self, platform: str) -> bool:
        """Whether it is of use on that platform."""
        return self.platform in (platform, "any")

    def wanted(self) -> WantedFile:
        """The tool's file as the fetch engine takes it."""
        return WantedFile(f"{self.name} {self.version}", self.file_name, self.urls, self.sha256, self.size_bytes)


def read_tools(path: Path | None = None) -> tuple[Tool, ...]:
    """All tools of the file, locks/toolchains.json by default; LockFileError for one that isn't valid."""
    path = path if path is not None else TOOLCHAINS
    try:
        document = json.loads(fsutil.read_text(path))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}, and this program reads {FORMAT}")
        tools = tuple(
            Tool(**{**entry, "urls": tuple(entry["urls"]), "digest_from": tuple(entry["digest_from"])})
            for entry in document["tools"]
        )
        for tool in tools:
            _check(tool)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LockFileError(f"{path} is not valid: {error}.", cure="take it from version control again") from error
    return tools


def find_tool(name: str, platform: str, *, version: str = "", kind: str = "") -> Tool:
    """The tool for that platform (or for any); MissingToolError where none is declared."""
    for tool in read_tools():
        fits = tool.serves(platform) and version in ("", tool.version) and kind in ("", tool.kind)
        if tool.name == name and fits:
            return tool
    described = f"{name} {version}".strip()
    raise MissingToolError(
        f"There is no {described} for {platform} to fetch.",
        cause=f"{TOOLCHAINS.name} declares none: nobody publishes one with a stable URL and digest",
        cure=f"install {described} on this machine and put it on PATH",
    )


def _check(tool: Tool) -> None:
    if not SHA256.fullmatch(tool.sha256):
        raise ValueError(f"{tool.name} has the sha256 {tool.sha256!r}")
    if tool.kind not in KINDS:
        raise ValueError(f"{tool.name} is of the kind {tool.kind!r}")
    if not tool.digest_from or not all(DIGEST_SOURCE.fullmatch(source) for source in tool.digest_from):
        raise ValueError(f"{tool.name} doesn't say who vouches for its digest")
    for url in tool.urls:
        if url_problem(url):
            raise ValueError(f"{tool.name} has the URL {url!r}")
    if not tool.urls or not is_safe_file_name(tool.file_name):
        raise ValueError(f"{tool.name} has no file name")
