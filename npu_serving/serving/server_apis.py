"""A server of this machine by the APIs that it has: the same question is asked over REST, or else over gRPC."""

from __future__ import annotations

from dataclasses import dataclass

from npu_serving.asking import grpc_client, rest_client
from npu_serving.asking.answers import ShownPrediction
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.rest_client import PREDICT_TIMEOUT_S
from npu_serving.client.address import SCHEME
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import ModelMetadata

LOCAL = "127.0.0.1"


@dataclass(frozen=True)
class ServerApis:
    """Its ports; a REST port of 0 for none. With `has_tls` its gRPC API can't be asked here."""

    rest_api_port: int
    port: int
    has_tls: bool = False

    @property
    def rest_url(self) -> str:
        """Where its REST API is; "" for nowhere."""
        return f"http://{LOCAL}:{self.rest_api_port}" if self.rest_api_port else ""

    @property
    def grpc_url(self) -> str:
        """Where its gRPC API is."""
        return f"{SCHEME}://{LOCAL}:{self.port}"

    def metadata(self, model: str) -> ModelMetadata:
        """The model's signatures."""
        if self.rest_url:
            return rest_client.model_metadata(self.rest_url, model)
        return grpc_client.model_metadata(self.grpc_url, ModelSpec(model))

    def predict(
        self,
        spec: ModelSpec,
        request: PredictRequest,
        *,
        timeout_s: float = PREDICT_TIMEOUT_S,
        over_grpc: bool = False,
    ) -> ShownPrediction:
        """What that version answers, the newest by default; a label wants `over_grpc`."""
        if self.rest_url and not over_grpc:
            return rest_client.predict(self.rest_url, spec.name, request, version=spec.version, timeout_s=timeout_s)
        return grpc_client.predict(self.grpc_url, spec, request, timeout_s=timeout_s)

    def ask(self, golden: GoldenRequest, *, timeout_s: float = PREDICT_TIMEOUT_S) -> ShownPrediction:
        """What is answered to a golden request, over the API that it wants where the server has that."""
        spec = ModelSpec(golden.model, golden.version, golden.label)
        return self.predict(spec, golden.request, timeout_s=timeout_s, over_grpc=golden.needs_grpc)
