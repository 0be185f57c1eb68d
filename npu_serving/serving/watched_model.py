"""One model whose server is watched: its state, and the requests that prove it to answer, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from npu_serving.asking.golden import GoldenRequest
from npu_serving.client.model_types import VersionStatus
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.serving.first_request import FirstRequest, answered_text, first_requests
from npu_serving.serving.server_apis import ServerApis

NO_TLS = "its gRPC API wants TLS, and whom to trust is not known here; ./inv predict asks it: --url grpcs://HOST:PORT"


@dataclass(frozen=True)
class ModelReadiness:
    """A model's versions as the server last told them, why it is not ready ("" where it is), and what has proven it."""

    name: str
    versions: tuple[VersionStatus, ...] = ()
    waits_for: str = ""
    answered: str = ""
    """What it has answered: its golden request, or zeros; "" for nothing yet."""
    unproven: str = ""
    """Why nothing can be asked of it."""

    def to_json(self) -> dict[str, object]:
        """As the probes show it."""
        return {**asdict(self), "versions": [asdict(version) for version in self.versions]}


class WatchedModel:
    """What is known of a model: its state, by the thread of the watch; an outcome, by the thread of a request."""

    def __init__(self, model: ServedModel, golden: Sequence[GoldenRequest]) -> None:
        self.model = model
        self.golden = golden
        self.versions: tuple[VersionStatus, ...] = ()
        self.waits_for = "the server has not told its state yet"
        self.loaded = False
        self.asked_at: float | None = None
        self.first_asked_at: float | None = None
        self.not_before = 0.0
        self.failure = ""
        self.told: set[str] = set()
        self._pending: list[FirstRequest] | None = None
        self._done: list[FirstRequest] = []
        self._unproven: list[str] = []

    @property
    def answered(self) -> str:
        """What it has answered, in a few words."""
        return answered_text(self._done)

    @property
    def unproven(self) -> str:
        """What of it nothing can be said of, and why."""
        return "; ".join(self._unproven)

    @property
    def is_proven(self) -> bool:
        """Whether there is nothing left to ask."""
        return self._pending is not None and not self._pending

    @property
    def now(self) -> ModelReadiness:
        """What is known of it."""
        return ModelReadiness(self.model.name, self.versions, self.waits_for, self.answered, self.unproven)

    def next_request(self, apis: ServerApis) -> FirstRequest | None:
        """What is to be asked next; None where all was asked. Raises what the server says to a first question."""
        if self._pending is None:
            if apis.has_tls and not apis.rest_url:
                self._pending, self._unproven = [], [NO_TLS]
                return None
            served = {version.version for version in self.versions if version.state == "AVAILABLE"}
            self._pending = list(first_requests(apis.metadata(self.model.name), self.golden, served))
        while self._pending:
            first = self._pending[0]
            why = NO_TLS if first.needs_grpc and apis.has_tls else first.why_not
            if not why:
                return first
            self.is_unproven(first, why)
        return None

    def has_answered(self, first: FirstRequest) -> None:
        """That request was answered."""
        self._done.append(first)
        self._taken(first)

    def is_unproven(self, first: FirstRequest, why: str) -> None:
        """That request proves nothing; the signature is named where it is one of several."""
        is_alone = not self._done and self._pending == [first]
        self._unproven.append(why if first.golden is not None or is_alone else f"{first.signature}: {why}")
        self._taken(first)

    def _taken(self, first: FirstRequest) -> None:
        self._pending = [other for other in self._pending or () if other is not first]
