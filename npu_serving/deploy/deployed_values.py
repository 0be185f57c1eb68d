"""What a single value of a deployment.yaml may be: names, paths, counts, options, variables, presets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Callable, Union

from npu_serving import fsutil
from npu_serving.deploy.processor_lists import MOST, read_processors
from npu_serving.documents import NamedValues, Rule
from npu_serving.errors import NpuServingError
from npu_serving.models.layout import check_model_name
from npu_serving.options.auxiliary_files import WRITTEN_FILES, AuxiliaryContent
from npu_serving.options.catalogue import presets
from npu_serving.writers.environment_file import environment_line
from npu_serving.writers.flag_file import flag_line
from npu_serving.writers.systemd import systemd_line
from npu_serving.writers.text_proto import textproto_string

INT32, INT64 = 2**31 - 1, 2**63 - 1


def _said(check: Callable[[], object]) -> str:
    """What is wrong, where the check raises an error of ours: in the words of a mistake in a document."""
    try:
        check()
    except NpuServingError as error:
        return ": ".join(part for part in (error.what.rstrip("."), error.cause or error.cure) if part)
    return ""


def _model_name(name: str) -> str:
    return _said(lambda: check_model_name(name))


def _text(value: str) -> str:
    """What no file that is written from it could hold."""
    return _said(lambda: textproto_string(value))


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        return f"must be an absolute path, not {path!r}: the server would look for it in its own working directory"
    return _text(path)


def _base_path(path: str) -> str:
    return _text(path) if fsutil.is_remote(path) else _absolute(path)


def _on_a_line(path: str) -> str:
    """A path that becomes the value of a flag, a line of a file."""
    return _absolute(path) or _said(lambda: flag_line("path", path))


def _library(path: str) -> str:
    if re.search(r"[\s:]", path):
        return f"must be a path without blanks and colons, which divide the paths of LD_PRELOAD, not {path!r}"
    return _absolute(path)


def _channel_value(value: object) -> str:
    if not isinstance(value, str) or re.fullmatch(r"[^,=\x00-\x1f\x7f]+", value):
        return ""
    return f"must be a text without commas, = and control characters, which end such a value, not {value!r}"


def _environment_value(value: object) -> str:
    return _said(lambda: environment_line("this variable", str(value)))


def _processors(text: str) -> str:
    try:
        read_processors(text)
    except ValueError as error:
        return str(error)
    return ""


def _user(name: str) -> str:
    return _said(lambda: systemd_line(name)) or ("" if name else "must be the name of a user")


ModelName = Annotated[str, Rule(check=_model_name)]
BasePath = Annotated[str, Rule(check=_base_path)]
AbsolutePath = Annotated[str, Rule(check=_absolute)]
Version = Annotated[int, Rule(minimum=0, maximum=INT64)]
Label = Annotated[str, Rule(pattern=r"[^\x00-\x1f\x7f]+", expected="a text without control characters")]
Count = Annotated[int, Rule(minimum=1, maximum=INT32)]
NpuValue = Union[bool, Annotated[int, Rule(minimum=-INT64 - 1, maximum=INT64)], Annotated[str, Rule(check=_text)]]
OptionName = Annotated[
    str, Rule(pattern="[A-Za-z_][A-Za-z0-9_]*", expected="the name of a session option, of letters, digits and _")
]
NpuOptions = Annotated[
    Mapping[OptionName, Union[NpuValue, AuxiliaryContent]],
    NamedValues(
        {
            option: Union[Annotated[str, Rule(check=_text)], file.stated or file.content]
            for option, file in WRITTEN_FILES.items()
        },
        otherwise=NpuValue,
    ),
]
PresetName = Annotated[str, Rule(choices=presets)]
ChannelName = Annotated[str, Rule(pattern=r"[^,=\s\x00-\x1f\x7f]+", expected="a name without commas, = and blanks")]
ChannelValue = Union[
    Annotated[int, Rule(minimum=-INT32 - 1, maximum=INT32)], Annotated[str, Rule(check=_channel_value)]
]
VariableName = Annotated[
    str,
    Rule(pattern="[A-Za-z_][A-Za-z0-9_]*", expected="the name of an environment variable, of letters, digits and _"),
]
VariableValue = Union[int, Annotated[str, Rule(check=_environment_value)]]
PathOnALine = Annotated[str, Rule(check=_on_a_line)]
LibraryPath = Annotated[str, Rule(check=_library)]
ProcessorList = Union[Annotated[int, Rule(minimum=0, maximum=MOST)], Annotated[str, Rule(check=_processors)]]
UserName = Annotated[str, Rule(check=_user)]
