"""Models that were checked and what was found of them, as check-deployment and check-model show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from npu_serving.checking.npu_share import NpuShare
from npu_serving.deploy.model_checks import CheckedModel
from npu_serving.documents import SourcePlace
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.models.saved_model import MetaGraph
from npu_serving.shown_text import in_a_line

Shares = Mapping[int, "tuple[NpuShare, ...]"]
"""The forecasts for the NPU of a model's signatures, by its versions."""
_HEADINGS = ((PROBLEM, "Problem"), (WARNING, "Warning"), (NOTE, "Note"))
_MOST_DETAILS = 10


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, each once, problems before warnings before notes."""
    order = [severity for severity, _ in _HEADINGS]
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: order.index(finding.severity)))


def described(findings: Iterable[Finding], places: Mapping[str, SourcePlace]) -> list[str]:
    """Each finding under its heading, with the place in a file where its value stands."""
    headings = dict(_HEADINGS)
    return [_described(finding, headings[finding.severity], places) for finding in worst_first(findings)]


def _described(finding: Finding, heading: str, places: Mapping[str, SourcePlace]) -> str:
    place = places.get(finding.where)
    at = f" ({in_a_line(str(place))})" if place is not None else ""
    lines = [f"\n{heading}: {finding.where or finding.kind}{at}", f"  {in_a_line(finding.what)}"]
    lines += [f"    {in_a_line(detail)}" for detail in finding.details[:_MOST_DETAILS]]
    if len(finding.details) > _MOST_DETAILS:
        lines.append(f"    and {len(finding.details) - _MOST_DETAILS} more")
    if finding.cure:
        lines.append(f"  Next: {finding.cure}")
    return "\n".join(lines)


def model_lines(model: CheckedModel, shares: Shares) -> Iterator[str]:
    """The versions of a model with their signatures, and how much of each may run on the NPU."""
    for version in model.versions:
        by = "on the CPU" if model.options is None else "on the NPU"
        yield f"  {model.name}, version {version.number}, {by}: {version.path}"
        yield from signature_lines(version.graph)
        for share in shares.get(version.number, ()):
            if share.nodes:
                yield f"    {in_a_line(share.text())}"


def signature_lines(graph: MetaGraph | None) -> Iterator[str]:
    """Its signatures, with the types and shapes of their inputs and outputs."""
    for name, signature in sorted(graph.signatures.items()) if graph is not None else ():
        inputs = ", ".join(f"{key}: {spec.describe()}" for key, spec in sorted(signature.inputs.items()))
        outputs = ", ".join(f"{key}: {spec.describe()}" for key, spec in sorted(signature.outputs.items()))
        yield f"    {in_a_line(name)} ({in_a_line(inputs)}) -> ({in_a_line(outputs)})"


def model_json(model: CheckedModel, shares: Shares) -> dict[str, object]:
    """The same for `--json`."""
    return {
        "name": model.name,
        "base_path": model.base_path,
        "uses_npu": model.options is not None,
        "versions": [
            {
                "version": version.number,
                "path": str(version.path),
                "tags": sorted(version.graph.tags) if version.graph is not None else None,
                "signatures": version.graph.signatures_json() if version.graph is not None else None,
                "npu": [share.to_json() for share in shares.get(version.number, ())],
            }
            for version in model.versions
        ],
    }
