"""The same golden requests asked of two servers, such as the NPU and a CPU, and how far their answers agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.asking import grpc_client, rest_client
from npu_serving.asking.answer_difference import OutputDifference, difference
from npu_serving.asking.golden import GoldenRequest, Tolerance
from npu_serving.asking.golden_files import GoldenRequests, keep_tolerances
from npu_serving.client.address import grpc_address, is_grpc
from npu_serving.client.model_spec import ModelSpec
from npu_serving.console import Reporter, table
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError, RequestError, UnreachableError
from npu_serving.shown_text import in_a_line, shown_url

ALL = "all"


@dataclass(frozen=True)
class ComparedRequest:
    """One golden request, and the outputs of its two answers; `error` where a server did not answer."""

    name: str
    model: str
    outputs: tuple[OutputDifference, ...] = ()
    error: str = ""
    updated: Path | None = None

    @property
    def is_within(self) -> bool:
        """Whether every value is near enough."""
        return not self.error and all(not output.outside for output in self.outputs)

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "name": self.name,
            "model": self.model,
            "within": self.is_within,
            "outputs": [output.to_json() for output in self.outputs],
            "error": self.error,
            "updated": str(self.updated) if self.updated is not None else None,
        }


@dataclass(frozen=True)
class ComparedAnswers:
    """All golden requests that were asked of both servers."""

    first: str
    second: str
    requests: tuple[ComparedRequest, ...]

    @property
    def exit_code(self) -> int:
        """3 where a value is outside its tolerance, or a server did not answer, unless that is what was written."""
        return 0 if all(each.is_within or each.updated for each in self.requests) else EXIT_ACTION_NEEDED

    def to_json(self) -> dict[str, object]:
        """All figures."""
        return {
            "first": self.first,
            "second": self.second,
            "within": all(each.is_within for each in self.requests),
            "requests": [each.to_json() for each in self.requests],
        }

    def text(self) -> str:
        """A line for each output, then what is to be said of it."""
        header = ("GOLDEN", "OUTPUT", "SHAPE", "COSINE", "MAX ABS", "MAX REL", "TOP-1", "TOP-5", "OUTSIDE")
        rows: list[tuple[str, ...]] = [
            (
                in_a_line(each.name),
                in_a_line(output.output) or "-",
                str(list(output.shape)),
                _shown(output.cosine, ".8f"),
                _shown(output.max_absolute, ".3g"),
                _shown(output.max_relative, ".3g"),
                _shown(output.top_1, ".1%"),
                _shown(output.top_5, ".1%"),
                f"{output.outside} of {output.values}",
            )
            for each in self.requests
            for output in each.outputs
        ]
        lines = [f"first: {self.first}", f"second: {self.second}", *([table(rows, header=header)] if rows else [])]
        for each in self.requests:
            for output in each.outputs:
                of = f"{in_a_line(each.name)} {in_a_line(output.output)}".strip()
                if output.both_nan:
                    lines.append(f"{of}: {output.both_nan} values are NaN in both answers, which counts as equal")
                if output.note:
                    lines.append(f"{of}: {output.note}")
            if each.error:
                lines.append(f"{in_a_line(each.name)}: {each.error}")
            if each.updated is not None:
                lines.append(f"{in_a_line(each.name)}: its tolerances are written to {each.updated}")
        outside = [each.name for each in self.requests if not each.is_within]
        if outside:
            shown = ", ".join(map(in_a_line, outside))
            lines.append(f"{len(outside)} of {len(self.requests)} differ by more than their tolerances allow: {shown}")
        else:
            lines.append(f"All {len(self.requests)} are within their tolerances.")
        return "\n".join(lines)


def compare_answers(
    golden: GoldenRequests,
    wanted: Sequence[str],
    first: str,
    second: str,
    *,
    timeout_s: float,
    reporter: Reporter,
    update: bool = False,
) -> ComparedAnswers:
    """The golden requests of these names (or all), asked of both.

    RequestError for a mistyped address, UnreachableError where one server is not there.

    With `update` the tolerances of each that both have answered are written into its file: as measured, with a margin.
    """
    for url in (first, second):
        grpc_address(url) if is_grpc(url) else rest_client.checked_base(url)
    compared = []
    chosen = _chosen(golden, wanted)
    with reporter.progress("comparing answers", total=len(chosen), unit="requests") as progress:
        for number, each in enumerate(chosen):
            progress.update(number, detail=each.name)
            compared.append(_compared(golden.directory, each, (first, second), timeout_s, update=update))
    return ComparedAnswers(shown_url(first), shown_url(second), tuple(compared))


def _chosen(golden: GoldenRequests, wanted: Sequence[str]) -> list[GoldenRequest]:
    requests = golden.sound()
    names = [each.name for each in requests]
    if not requests:
        raise RequestError(
            f"No golden request is in {golden.directory}.",
            cause="none was recorded, or they are elsewhere",
            cure="keep one: ./inv predict MODEL --request FILE --save-golden NAME; or name their --directory",
        )
    unknown = [name for name in wanted if name not in (*names, ALL)]
    if unknown:
        raise RequestError(
            f"There is no golden request {unknown[0]!r} in {golden.directory}.",
            cause=f"there are {', '.join(map(repr, names[:10]))}",
            cure=f"name one of them, or --golden {ALL}",
        )
    return [each for each in requests if ALL in wanted or not wanted or each.name in wanted]


def _compared(
    directory: Path, golden: GoldenRequest, urls: tuple[str, str], timeout_s: float, *, update: bool
) -> ComparedRequest:
    answers: list[object] = []
    for url in urls:
        try:
            answers.append(_answer(url, golden, timeout_s))
        except UnreachableError:
            raise
        except NpuServingError as error:
            return ComparedRequest(golden.name, golden.model, error=f"{shown_url(url)}: {error.what}")
    outputs = difference((answers[0], answers[1]), golden.tolerance, golden.tolerances)
    updated = None
    if update and all(output.measured is not None or not output.outside for output in outputs):
        measured: dict[str, Tolerance] = {
            output.output: output.measured for output in outputs if output.measured is not None
        }
        updated = keep_tolerances(directory, golden, measured) if measured else None
    return ComparedRequest(golden.name, golden.model, outputs, updated=updated)


def _answer(url: str, golden: GoldenRequest, timeout_s: float) -> object:
    if is_grpc(url):
        spec = ModelSpec(golden.model, golden.version, golden.label, golden.request.signature_name)
        return grpc_client.predict(url, spec, golden.request, timeout_s=timeout_s).outputs
    if golden.label:
        raise RequestError(
            f"{golden.name} names a version by its label, which REST does not know.",
            cure="ask the server's gRPC port: grpc://HOST:8500",
        )
    return rest_client.predict(url, golden.model, golden.request, version=golden.version, timeout_s=timeout_s).outputs


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
