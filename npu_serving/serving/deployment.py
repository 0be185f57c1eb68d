"""Whether a deployment means the NPU, and what would silently leave its models to the CPU all the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.asking.npu_signs import LEVEL_OF_THE_SIGN, LOG_LEVEL_VARIABLE
from npu_serving.cann.layout import Component
from npu_serving.cann.operator_list import EFFECT, OperatorLists, cure_for, operator_list_table, operator_lists
from npu_serving.deploy.platform_config import PlatformConfigFile, read_platform_config
from npu_serving.errors import RequestError, ServerError
from npu_serving.options import asked_options
from npu_serving.options.npu_optimizer import SWITCH
from npu_serving.options.rules import check_options


@dataclass(frozen=True)
class Deployment:
    """Whether its platform config asks for the NPU, and what a server's environment needs for that."""

    uses_npu: bool
    warnings: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def deployment_of(
    platform_config_file: Path | None,
    env: Mapping[str, str],
    runtime: Component | None = None,
    texts: Mapping[Path, str] | None = None,
) -> Deployment:
    """The deployment with that platform config, of a server with that environment; `runtime` is the CANN found here.

    `texts` are those of files that are not written yet.

    Raises RequestError for a config by which, and ServerError for a CANN with which, models would silently run on the
    CPU though the NPU is meant; RequestError too for options by which the adapter would end the server or fail a model.
    """
    if platform_config_file is None:
        without = "without --platform-config-file, and the NpuOptimizer in it, every model runs on the CPU"
        return Deployment(uses_npu=False, warnings=(without,))
    path = platform_config_file.expanduser().absolute()
    config = read_platform_config(path, (texts or {}).get(path))
    if config.trouble:
        return Deployment(uses_npu=False, warnings=(f"{config.trouble}: the server won't read this file, nor start",))
    warnings = _warnings_about_options(config, runtime.version if runtime is not None else "", env)
    if not config.asks_for_npu:
        without = f"no NpuOptimizer is on in {platform_config_file}, so every model runs on the CPU"
        return Deployment(uses_npu=False, warnings=(without,))
    lists = operator_lists(env)
    if lists.are_empty:
        raise ServerError(f"{lists.trouble}: {EFFECT}.", cause=_why_no_list(lists, env), cure=cure_for(lists, runtime))
    warnings += [f"{lists.trouble}: only custom operators go to the NPU"] if lists.trouble else []
    level = env.get(LOG_LEVEL_VARIABLE, LEVEL_OF_THE_SIGN)
    if level != LEVEL_OF_THE_SIGN:
        warnings.append(
            f"{LOG_LEVEL_VARIABLE} is {level!r}, {LEVEL_OF_THE_SIGN} is used in its place: only at that level does the "
            "server say that the NPU is used"
        )
    return Deployment(True, tuple(warnings), {LOG_LEVEL_VARIABLE: LEVEL_OF_THE_SIGN})


def _warnings_about_options(config: PlatformConfigFile, release: str, env: Mapping[str, str]) -> list[str]:
    """What there is to say of the options; RequestError for those that the adapter of that CANN would refuse.

    It refuses them where it is switched off, too: then nothing else is said of them.
    """
    known = {name: value for name, value in env.items() if name != operator_list_table().variable}  # looked at already
    refused: dict[str, str] = {}
    warnings = []
    for parameters in config.optimizers:
        values = {name: parameter.value for name, parameter in parameters.items()}
        is_off = values.get(SWITCH, True) is False
        for finding in check_options(values, release, environment=known):
            parameter = parameters.get(finding.where)
            what = f"{parameter.place}: {finding.what}" if parameter is not None else finding.what
            if finding.kind in asked_options.EFFECT and not (is_off and finding.kind == asked_options.RUNS_ON_THE_CPU):
                refused[what] = finding.cure
            elif not is_off:
                warnings.append(f"{what}: {finding.cure}")
    if refused:
        raise RequestError(
            "\n".join(f"{what}." for what in refused),
            cause=f"TF Adapter{f' of CANN {release}' if release else ''} reads the options when a graph is first run",
            cure="; ".join(dict.fromkeys(refused.values())),
        )
    return list(dict.fromkeys(warnings))


def _why_no_list(lists: OperatorLists, env: Mapping[str, str]) -> str:
    variable = operator_list_table().variable
    if lists.is_closed:
        return "CANN was installed for other users only"
    if variable in env:
        return f"{variable} is {env[variable]!r}, and CANN's operators are not installed there, or only in part"
    return f"no CANN was found here, and {variable} is not set"
