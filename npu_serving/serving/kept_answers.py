"""What `predict` keeps of an answer beside showing it: its outputs in a file, and a golden request.

What that takes is imported when it is done: most answers are only shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.errors import RequestError
from npu_serving.serving.server_record import record_at_url
from npu_serving.settings import Settings

if TYPE_CHECKING:
    from npu_serving.asking.predicting import Answered, AskedOnce, ModelAtServer
    from npu_serving.deploy.deployment_file import DeploymentFile


@dataclass(frozen=True)
class KeptPrediction:
    """What a model answered, and the files that were written of it."""

    answered: Answered
    output: Path | None = None
    golden: Path | None = None

    @property
    def is_data(self) -> bool:
        """A URL in it is the model's answer, and shown as it is."""
        return True

    @property
    def exit_code(self) -> int:
        """That of the answer."""
        return int(getattr(self.answered, "exit_code", 0))

    def to_json(self) -> dict[str, object]:
        """The answer, and the files."""
        files = {name: str(path) for name, path in (("output", self.output), ("golden", self.golden)) if path}
        return {**self.answered.to_json(), **files}

    def text(self) -> str:
        """The answer, and a line for each file."""
        lines = [self.answered.text()]
        if self.output is not None:
            lines.append(f"The outputs are in {self.output}")
        if self.golden is not None:
            lines.append(f"The golden request is in {self.golden}; ./inv smoke asks it of a build")
        return "\n".join(lines)


class KeptAnswers:
    """Where answers are kept. RequestError, before anything is asked, for a name that no golden request can have."""

    def __init__(
        self, settings: Settings, deployment: DeploymentFile | None, output: Path | None, golden_name: str
    ) -> None:
        self._settings = settings
        self._deployment = deployment
        self._output = output
        self._name = golden_name
        if golden_name:
            from npu_serving.asking.golden_files import check_name

            check_name(golden_name, "--save-golden")

    def keep(self, server: ModelAtServer, asked: AskedOnce) -> KeptPrediction:
        """Writes what is wanted. FileAccessError, DiskFullError."""
        if self._output is not None:
            from npu_serving.asking.prediction_files import write_outputs

            write_outputs(self._output, asked.answered)
        golden = self._kept(server, asked) if self._name else None
        return KeptPrediction(asked.answered, self._output, golden)

    def _kept(self, server: ModelAtServer, asked: AskedOnce) -> Path:
        from npu_serving.asking.golden import GRPC, REST, GoldenOrigin, GoldenRequest
        from npu_serving.asking.golden_files import write_golden
        from npu_serving.asking.golden_places import golden_directory

        if asked.request is None:
            raise RequestError("The answers of several requests make no golden request.", cure="ask for one of them")
        spec = server.spec
        record = record_at_url(self._settings.build_root, server.url)
        request = record.request if record is not None else None
        golden = GoldenRequest(
            name=self._name,
            model=spec.name,
            request=asked.request,
            expected=asked.expected,
            version=spec.version,
            label=spec.label,
            api=GRPC if server.is_grpc else REST,
            model_base_path=self._base_path(spec.name) or (request.model_base_path if request is not None else ""),
            platform_config_file=request.platform_config_file if request is not None else None,
            origin=GoldenOrigin(
                build=record.build if record is not None else "",
                device="" if record is None else "npu" if record.uses_npu else "cpu",
                date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            ),
        )
        own = self._deployment.golden if self._deployment is not None else None
        directory = Path(own) if own else golden_directory(self._settings.dist_root)
        return write_golden(directory, golden, asked.inputs_npz)

    def _base_path(self, model: str) -> str:
        """Where the deployment has the model; "" without one."""
        models = self._deployment.models if self._deployment is not None else ()
        return next((str(each.base_path) for each in models if each.name == model), "")
