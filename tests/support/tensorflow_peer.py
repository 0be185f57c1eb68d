"""A server with TensorFlow Serving's APIs that runs real SavedModels in the real TensorFlow 1.15.0: run by its Python.

usage: PYTHON tensorflow_peer.py MODELS   (prints {"grpc", "rest", "control", "socket"}; ends with its input)

What it does as TensorFlow Serving 1.15.0 does it: both APIs with their services, paths, statuses and messages;
sessions; versions and labels; answers in the typed fields; error texts cut at 1,024 bytes over gRPC, and escaped as C
does it over REST; uint8 that wraps there, bare NaN; batching with its full queue (UNAVAILABLE, 503) and its time limit
(RESOURCE_EXHAUSTED, 429); the time limit of REST (504). What it does not: be fast, load or unload while it answers,
watch directories, read its files of settings, write logs. Nothing here is our code, and the messages are those of
tensorflow-serving-api.

The control port: GET /counters has what was asked of it since the last reset, by method (requests, statuses, clients
that went away, the most at a time, peers, microseconds of each); GET /last the bytes of the last request of a method;
POST /faults sets how it misbehaves (tensorflow_peer_faults.py has the names); POST /reset ends that, and counts from 0.
"""

# mypy: ignore-errors

import base64
import hashlib
import json
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import grpc
import numpy
import tensorflow
from tensorflow.core.framework import types_pb2
from tensorflow_peer_core import CLASSIFY, REGRESS, Models
from tensorflow_peer_faults import INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED, Faults, Refusal
from tensorflow_peer_rest import ASKED, handle
from tensorflow_peer_tensors import tensor_bytes
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

MOST_ERROR_BYTES = 1024
FOREVER_S = 1e9
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Counters:
    """What was asked since the last reset."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reset()

    def reset(self):
        with self.lock:
            self.requests, self.statuses, self.cancelled = Counter(), defaultdict(Counter), Counter()
            self.peers, self.microseconds, self.last = defaultdict(set), defaultdict(list), {}
            self.digests = defaultdict(list)
            self.in_flight, self.most_at_a_time = 0, 0

    def begin(self, method, peer, data):
        with self.lock:
            self.requests[method] += 1
            self.peers[method].add(peer)
            self.last[method] = data
            self.digests[method].append(hashlib.sha256(data).hexdigest()[:16])
            self.in_flight += 1
            self.most_at_a_time = max(self.most_at_a_time, self.in_flight)

    def end(self, method, begun, status, cancelled):
        with self.lock:
            self.statuses[method][status] += 1
            self.cancelled[method] += cancelled
            self.microseconds[method].append(int((time.perf_counter() - begun) * 1e6))
            self.in_flight = max(0, self.in_flight - 1)

    def shown(self):
        with self.lock:
            return {
                "requests": self.requests,
                "statuses": self.statuses,
                "cancelled": self.cancelled,
                "peers": {method: sorted(peers) for method, peers in self.peers.items()},
                "microseconds": self.microseconds,
                "digests": self.digests,
                "most_at_a_time": self.most_at_a_time,
            }


class Calls:
    """What both APIs answer, in the messages of gRPC."""

    def __init__(self, models):
        self.models = models

    def predict(self, data, timeout_s):
        request = predict_pb2.PredictRequest.FromString(data)
        number, key, outputs = self.models.predict(request, timeout_s)
        response = predict_pb2.PredictResponse()
        self._name(response.model_spec, request.model_spec.name, number, key)
        damage = self.models.faults.answer.get(request.model_spec.name, "")
        for alias, (array, dtype) in outputs.items():
            if damage == "other_type":
                array, dtype = numpy.full(array.shape, b"text", object), types_pb2.DT_STRING
            if damage == "other_shape":
                array = array.reshape(-1, 1, 1)
            response.outputs[alias].ParseFromString(tensor_bytes(array, dtype))
        answer = response.SerializeToString()
        return {"truncated": answer[:-3], "empty": b"", "noise": b"\xff" * 40}.get(damage, answer)

    def outputs(self, request, timeout_s):
        return self.models.predict(request, timeout_s)[2]

    def inputs_of(self, spec):
        version, _ = self.models.find(spec)
        key = spec.signature_name or "serving_default"
        if key not in version.signatures:
            raise Refusal(INVALID_ARGUMENT, f'Serving signature name: "{key}" not found in signature def')
        return version.signatures[key].inputs

    def classify(self, data, timeout_s):
        return self.of_examples(classification_pb2.ClassificationRequest.FromString(data), timeout_s)

    def regress(self, data, timeout_s):
        return self.of_examples(regression_pb2.RegressionRequest.FromString(data), timeout_s)

    def of_examples(self, request, timeout_s):
        classifies = isinstance(request, classification_pb2.ClassificationRequest)
        method = CLASSIFY if classifies else REGRESS
        response = classification_pb2.ClassificationResponse() if classifies else regression_pb2.RegressionResponse()
        self._infer(request.model_spec, request.input, method, timeout_s, response)
        return response

    def multi_inference(self, data, timeout_s):
        request = inference_pb2.MultiInferenceRequest.FromString(data)
        if len({task.model_spec.name for task in request.tasks}) > 1:
            what = "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            raise Refusal(INVALID_ARGUMENT, what)
        response = inference_pb2.MultiInferenceResponse()
        for task in request.tasks:
            if task.method_name not in (CLASSIFY, REGRESS):
                raise Refusal(UNIMPLEMENTED, "Unsupported signature method_name: " + task.method_name)
            kind = classification_pb2 if task.method_name == CLASSIFY else regression_pb2
            single = getattr(kind, f"{'Classification' if task.method_name == CLASSIFY else 'Regression'}Response")()
            self._infer(task.model_spec, request.input, task.method_name, timeout_s, single)
            result = response.results.add(model_spec=single.model_spec)
            field = "classification_result" if task.method_name == CLASSIFY else "regression_result"
            getattr(result, field).CopyFrom(single.result)
        return response

    def _infer(self, spec, given, method, timeout_s, response):
        kind = given.WhichOneof("kind")
        examples = list(getattr(given, kind).examples) if kind else []
        if kind == "example_list_with_context":
            for one in examples:
                one.MergeFrom(given.example_list_with_context.context)
        serialized = [one.SerializeToString() for one in examples]
        number, key, outputs = self.models.examples(spec, serialized, method, timeout_s)
        self._name(response.model_spec, spec.name, number, key)
        if method == REGRESS:
            for value in outputs["outputs"][0].ravel().tolist():
                response.result.regressions.add(value=value)
            return
        for labels, scores in zip(outputs["classes"][0], outputs["scores"][0]):
            row = response.result.classifications.add()
            for label, score in zip(labels, scores):
                row.classes.add(label=label, score=score)

    def metadata(self, request, _timeout_s=0.0):
        if isinstance(request, bytes):
            request = get_model_metadata_pb2.GetModelMetadataRequest.FromString(request)
        if not request.HasField("model_spec"):
            raise Refusal(INVALID_ARGUMENT, "Missing ModelSpec")
        if not request.metadata_field:
            raise Refusal(INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise Refusal(INVALID_ARGUMENT, f"Metadata field %s is not supported{field}")
        version, number = self.models.find(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, signature in version.signatures.items():
            signatures.signature_def[key].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self._name(response.model_spec, request.model_spec.name, number, "")
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request, _timeout_s=0.0):
        if isinstance(request, bytes):
            request = get_model_status_pb2.GetModelStatusRequest.FromString(request)
        if not request.HasField("model_spec"):
            raise Refusal(INVALID_ARGUMENT, "Missing ModelSpec")
        name, states = request.model_spec.name, self.models.states.get(request.model_spec.name, {})
        if request.model_spec.HasField("version"):
            number = request.model_spec.version.value
            if number not in states:
                raise Refusal(NOT_FOUND, f"Could not find version {number} of model {name}")
            states = {number: states[number]}
        if not states:
            raise Refusal(NOT_FOUND, f"Could not find any versions of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, (state, code, message) in sorted(states.items(), reverse=True):
            one = response.model_version_status.add(version=number, state=state)
            one.status.error_code, one.status.error_message = code, message
        return response

    def reload_config(self, data, _timeout_s):
        request = model_management_pb2.ReloadConfigRequest.FromString(data)
        if request.config.WhichOneof("config") != "model_config_list":
            what = "ServerModelConfig type not supported by HandleReloadConfigRequest."
            raise Refusal(INVALID_ARGUMENT, what + " Only ModelConfigList is currently supported")
        self.models.reload([(one.name, one.base_path) for one in request.config.model_config_list.config])
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response

    @staticmethod
    def _name(spec, name, number, signature):
        spec.name, spec.version.value, spec.signature_name = name, number, signature


def grpc_server(calls, counters, faults, socket, port=0):
    """The gRPC API on that port or a free one, which is returned beside it, and on that socket."""

    def handler(method, answer):
        def called(data, context):
            begun, status = time.perf_counter(), 0
            counters.begin(method, context.peer(), data)
            try:
                timeout_s = FOREVER_S  # as without --enforce_session_run_timeout
                if faults.silent:
                    faults.hold(3600)
                response = answer(data, timeout_s)
                return response if isinstance(response, bytes) else response.SerializeToString()
            except Refusal as refusal:
                status = refusal.code
                message = refusal.message.encode()[:MOST_ERROR_BYTES].decode(errors="ignore")
                context.abort(CODES[status], message)
            finally:
                counters.end(method, begun, status, not context.is_active() and status == 0)

        return grpc.unary_unary_rpc_method_handler(called)

    services = {
        "PredictionService": {
            "Predict": calls.predict,
            "Classify": calls.classify,
            "Regress": calls.regress,
            "MultiInference": calls.multi_inference,
            "GetModelMetadata": calls.metadata,
        },
        "ModelService": {"GetModelStatus": calls.status, "HandleReloadConfigRequest": calls.reload_config},
    }
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(128), options=options)
    for service, methods in services.items():
        handlers = {method: handler(method, answer) for method, answer in methods.items()}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("tensorflow.serving." + service, handlers),)
        )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.add_insecure_port("unix:" + socket)
    server.start()
    return server, port


class HttpServer(ThreadingHTTPServer):
    """One that many may connect to at once."""

    request_queue_size = 256
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 as both the REST port and the control port speak it."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self):
        self.respond(b"")

    def do_POST(self):
        self.respond(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def send(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def rest_server(calls, counters, faults, port=0):
    class Rest(Handler):
        def respond(self, body):
            if self.path == "/monitoring/prometheus/metrics":
                return self.send(200, prometheus(counters), "text/plain")
            asked = ASKED.fullmatch(self.path)
            method, begun = f"REST {asked.group(3).lower()}" if asked else "REST", time.perf_counter()
            counters.begin(method, ":".join(map(str, self.client_address)), body)
            if faults.silent:
                faults.hold(3600)
            status, answer = 500, b""
            try:
                status, answer = handle(calls, self.command, self.path, body, faults.rest_timeout_ms / 1000)
                damage = asked and faults.answer.get(asked.group(1), "")
                if status == 200 and damage in ("truncated", "empty", "noise"):
                    answer = {"truncated": answer[:-3], "empty": b"", "noise": b"\xff" * 40}[damage]
                self.send(status, answer)
                self.wfile.flush()
            except OSError:
                counters.end(method, begun, status, True)
            else:
                counters.end(method, begun, status, False)

    return HttpServer(("127.0.0.1", port), Rest)


def prometheus(counters):
    shown = counters.shown()
    name = ":tensorflow:serving:request_example_count_total"
    lines = [f"# TYPE {name} counter"]
    lines += [f'{name}{{model="{method}"}} {count}' for method, count in shown["requests"].items()]
    return ("\n".join(lines) + "\n").encode()


def control_server(counters, faults):
    class Control(Handler):
        def respond(self, body):
            place = urlsplit(self.path)
            if place.path == "/faults":
                faults.set(json.loads(body.decode()))
            elif place.path == "/reset":
                faults.reset()
                counters.reset()
            answer = counters.shown()
            if place.path == "/last":
                method = parse_qs(place.query)["method"][0]
                answer = base64.b64encode(counters.last.get(method, b"")).decode()
            self.send(200, json.dumps(answer).encode())

    return HttpServer(("127.0.0.1", 0), Control)


def main(directory):
    tensorflow.compat.v1.logging.set_verbosity(tensorflow.compat.v1.logging.ERROR)
    faults, counters = Faults(), Counters()
    calls = Calls(Models(directory, faults))
    with tempfile.TemporaryDirectory() as place:
        socket = str(Path(place) / "grpc")
        server, port = grpc_server(calls, counters, faults, socket)
        rest, control = rest_server(calls, counters, faults), control_server(counters, faults)
        for one in (rest, control):
            threading.Thread(target=one.serve_forever, daemon=True).start()
        ports = {"grpc": port, "rest": rest.server_port, "control": control.server_port, "socket": socket}
        print(json.dumps(ports), flush=True)
        sys.stdin.read()
        faults.reset()
        server.stop(0)


if __name__ == "__main__":
    main(sys.argv[1])
