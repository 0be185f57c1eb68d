"""The tools that may be fetched, from locks/toolchains.json: which file, for which platform, with which digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from npu_serving.documents import DocumentRefusal, Rule, read_document
from npu_serving.errors import LockFileError, MissingToolError
from npu_serving.fetch.transfer import WantedFile
from npu_serving.lock.lockfile import Sha256, SizeBytes, Urls, file_name_of, is_safe_file_name
from npu_serving.settings import PROJECT_ROOT

TOOLCHAINS = PROJECT_ROOT / "locks" / "toolchains.json"
FORMAT = 1
DigestSource = Annotated[str, Rule(pattern="[^:]+: .+", expected="`PROJECT: FILE` or `measured: HOW`")]


@dataclass(frozen=True)
class Tool:
    """One file of one version of a tool. `platform` is like linux-x86_64, or `any` for sources."""

    name: str
    version: str
    platform: str
    kind: Literal["program", "archive", "sources"]
    """`program` (made executable and run), `archive` (unpacked), or `sources` (built)."""
    sha256: Sha256
    size_bytes: SizeBytes | None
    """None where no recipe states it."""
    urls: Urls
    digest_from: Annotated[tuple[DigestSource, ...], Rule(fewest=1)]
    """Who vouches for the digest: `PROJECT: FILE` for a public recipe that pins it, or `measured: HOW`."""

    @property
    def file_name(self) -> str:
        """The last part of the first URL."""
        return file_name_of(self.urls[0])

    def problems(self) -> Iterator[tuple[str, str]]:
        """What the reader of documents asks: what only several fields together show."""
        if not is_safe_file_name(self.file_name):
            yield "urls", f"the first one ends in {self.file_name!r}, which can't be used as a file name"

    def works_on(self, platform: str) -> bool:
        """Whether it runs, or can be built, on that platform."""
        return self.platform in (platform, "any")

    def wanted(self) -> WantedFile:
        """The tool's file as the fetch engine takes it."""
        return WantedFile(f"{self.name} {self.version}", self.file_name, self.urls, self.sha256, self.size_bytes)


@dataclass(frozen=True)
class _ToolList:
    """The file."""

    tools: tuple[Tool, ...]


def read_tools(path: Path | None = None) -> tuple[Tool, ...]:
    """All tools of the file, locks/toolchains.json by default; LockFileError for one that isn't valid."""
    path = path if path is not None else TOOLCHAINS
    refusal = DocumentRefusal(f"{path} is not valid:", LockFileError, cure="take it from version control again")
    return read_document(path, _ToolList, format=FORMAT, refusal=refusal).tools


def find_tool(name: str, platform: str, *, version: str = "", kind: str = "") -> Tool:
    """The tool for that platform (or for any); MissingToolError where none is declared."""
    for tool in read_tools():
        fits = tool.works_on(platform) and version in ("", tool.version) and kind in ("", tool.kind)
        if tool.name == name and fits:
            return tool
    described = f"{name} {version}".strip()
    raise MissingToolError(
        f"No download of {described} is known for {platform}.",
        cause=f"{TOOLCHAINS.name} lists none, because nobody publishes one with a stable URL and digest",
        cure=f"install {described} on this machine and put it on PATH",
    )
