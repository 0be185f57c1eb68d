"""Golden requests asked of a servable that was just made: whether the om answers as the model did."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.findings import NOTE, PROBLEM, Finding
from npu_serving.serving.golden_request import golden_requests
from npu_serving.settings import Settings
from npu_serving.trials.smoke import golden_of, smoke

KIND = "golden"
_OPERATOR_IS_MISSING = "Op type not registered 'LoadAndExecuteOm'"


def golden_to_ask(settings: Settings, names: Sequence[str]) -> tuple[GoldenRequest, ...]:
    """The golden requests of these names. RequestError for one that is not there."""
    found = golden_requests(settings) if names else None
    return tuple(each for name in names if found is not None for each in golden_of(found, name))


def compared_with_golden(
    settings: Settings,
    servable: Path,
    requests: Sequence[GoldenRequest],
    build: str,
    scratch: Path,
    reporter: Reporter,
) -> list[Finding]:
    """What a build's server says of the golden requests with this version of a model: a finding for each.

    One that differs, or that could not be asked, calls for something to be done. The servable stays where it is.
    """
    base = fsutil.make_directory(scratch / "asked" / servable.parent.name)
    fsutil.point_link(base / servable.name, servable)
    # No platform config: the adapter starts the graph engine for an om by itself, and compiles nothing.
    asked = [
        dataclasses.replace(each, model_base_path=str(base), platform_config_file=None, version=None, label="")
        for each in requests
    ]
    try:
        result = smoke(settings, build, reporter, asked)
    except RequestError:
        raise
    except NpuServingError as error:
        return [_not_asked(error, len(requests))]
    found = []
    for outcome in result.outcomes:
        name = outcome.golden.name
        if outcome.why or outcome.not_asked:
            why = outcome.why or outcome.not_asked
            cure = "look at it with ./inv compare-answers, or allow it: --update-tolerances there"
            found.append(Finding(f"The golden request {name} is not answered as before: {why}", cure, PROBLEM, KIND))
        else:
            found.append(Finding(f"The golden request {name} is answered as before.", severity=NOTE, kind=KIND))
    return found


def _not_asked(error: NpuServingError, count: int) -> Finding:
    what = f"The golden request{'s were' if count > 1 else ' was'} not asked: {error.what}"
    if _OPERATOR_IS_MISSING in str(error):
        return Finding(
            f"{what} The build's adapter lacks LoadAndExecuteOm, as the sample's does.",
            "use a build with CANN's own TF Adapter: --build BUILD",
            PROBLEM,
            KIND,
        )
    return Finding(what, error.cure, PROBLEM, KIND)
