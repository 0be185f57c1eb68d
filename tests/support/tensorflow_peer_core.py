"""The half of tensorflow_peer.py that knows no protocol: models, their sessions, what they answer and refuse.

What it refuses, and in which words, is what tensorflow_serving/servables/tensorflow/ and core/ say at 1.15.0; what a
session refuses is said by TensorFlow itself.
"""

# mypy: ignore-errors

import threading
from pathlib import Path

import numpy
import tensorflow
from tensorflow_peer_batching import Batcher
from tensorflow_peer_faults import (
    DEADLINE_EXCEEDED,
    FAILED_PRECONDITION,
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    UNKNOWN,
    Refusal,
)
from tensorflow_peer_tensors import tensor_of

tf = tensorflow.compat.v1
PREDICT, CLASSIFY, REGRESS = METHODS = tuple(
    f"tensorflow/serving/{kind}" for kind in ("predict", "classify", "regress")
)


class Version:
    """One version of a model in a session of its own."""

    def __init__(self, directory):
        self.session = tf.Session(
            graph=tf.Graph(),
            config=tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1),
        )
        with self.session.graph.as_default():
            self.meta_graph = tf.saved_model.load(self.session, ["serve"], str(directory))
        self.signatures = self.meta_graph.signature_def

    def run(self, feeds, fetches):
        """The outputs of those names as (array, type) for inputs by the names of their tensors."""
        tensor = self.session.graph.get_tensor_by_name
        fetched = [tensor(name) for name in fetches]
        try:
            outputs = self.session._call_tf_sessionrun(
                None,
                {tensor(name)._as_tf_output(): array for name, array in feeds},
                [one._as_tf_output() for one in fetched],
                [],
                None,
            )
        except tensorflow.errors.OpError as error:
            raise Refusal(error.error_code, error.message) from error
        # a single text comes as bytes, of which numpy would drop a zero at the end
        kinds = (object if one.dtype == tensorflow.string else None for one in fetched)
        return [
            (numpy.asarray(out, dtype=kind), one.dtype.as_datatype_enum)
            for out, kind, one in zip(outputs, kinds, fetched)
        ]


class Models:
    """What is served: models with their versions and labels, and what they answer."""

    def __init__(self, directory, faults):
        self.faults = faults
        self.directory = Path(directory)
        self.states = {}
        self.labels = {"versions": {"stable": 1, "canary": 2}}
        self.batchers = {}
        self.lock = threading.Lock()
        self.served = {}
        for place in sorted(self.directory.iterdir()):
            self.load(place.name, place)

    def load(self, name, base):
        """Loads each version below that directory. Raises Refusal where one can't be."""
        loaded = {}
        for place in sorted(Path(base).iterdir()):
            if place.name.isdigit():
                try:
                    loaded[int(place.name)] = Version(place)
                except Exception as error:
                    self.states.setdefault(name, {})[int(place.name)] = (50, INVALID_ARGUMENT, str(error))
                    raise Refusal(UNKNOWN, f"1 servable(s) did not become available: {{name: {name}}}") from error
        self.served[name] = loaded
        self.states[name] = dict.fromkeys(loaded, (30, 0, ""))

    def reload(self, configs):
        """Serves exactly these, as (name, base path): the others are unloaded."""
        wanted = dict(configs)
        if len(wanted) != len(configs):
            name = next(name for name, _ in configs if [one for one, _ in configs].count(name) > 1)
            raise Refusal(INVALID_ARGUMENT, f"Illegal to list model {name} multiple times in config list")
        for name, base in configs:
            if not base.startswith("/"):
                what = f"Expected model {name} to have an absolute path or URI; got base_path()={base}"
                raise Refusal(INVALID_ARGUMENT, what)
        for name in set(self.served) - set(wanted):
            self.states[name] = dict.fromkeys(self.served.pop(name), (50, 0, ""))
        for name, base in wanted.items():
            if name not in self.served:
                self.load(name, base)

    def find(self, spec):
        """The version that a ModelSpec means, and its number."""
        if not spec.name:
            raise Refusal(INVALID_ARGUMENT, "ModelSpec has no name specified.")
        versions = self.served.get(spec.name, {})
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            number = self.labels.get(spec.name, {}).get(spec.version_label)
            if number is None:
                raise Refusal(INVALID_ARGUMENT, "Unrecognized servable version label: " + spec.version_label)
        else:
            number = spec.version.value if choice == "version" else max(versions, default=None)
        if number not in versions:
            shown = f"Specific({spec.name}, {number})" if choice else f"Latest({spec.name})"
            raise Refusal(NOT_FOUND, "Servable not found for request: " + shown)
        return versions[number], number

    def run(self, name, version, feeds, fetches, timeout_s):
        """What a session answers: at once, after the delay that was set, or in a batch with others."""
        self.faults.before_answer(name)

        def slowly(feeds, fetches):
            self.faults.hold(self.faults.run_seconds(name))
            return version.run(feeds, fetches)

        if name in self.faults.batching:
            settings = self.faults.batching[name]
            with self.lock:
                key = (id(version), tuple(sorted(settings.items())))
                if key not in self.batchers:
                    self.batchers[key] = Batcher(slowly, settings)
            waited = self.faults.queue_timeout_ms / 1000 or timeout_s
            return self.batchers[key].ask(feeds, fetches, waited)
        taken = self.faults.run_seconds(name)
        self.faults.hold(min(taken, timeout_s))
        if taken > timeout_s:
            raise Refusal(DEADLINE_EXCEEDED, "Timed out waiting for notification")
        return version.run(feeds, fetches)

    def predict(self, request, timeout_s):
        """The version and the signature asked for, and the outputs as alias: (array, type)."""
        version, number = self.find(request.model_spec)
        key = request.model_spec.signature_name or "serving_default"
        if key not in version.signatures:
            raise Refusal(FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
        signature = version.signatures[key]
        if signature.method_name not in METHODS:
            listed = ", ".join(METHODS)
            what = f"Expected prediction signature method_name to be one of {{{listed}}}. Was: {signature.method_name}"
            raise Refusal(INTERNAL, what)
        feeds = self._feeds(request, signature)
        aliases = list(request.output_filter)
        for place, alias in enumerate(aliases):
            if alias not in signature.outputs:
                known = ",".join(sorted(signature.outputs))
                what = f"{alias} Outputs expected to be in the set {{{known}}}."
                raise Refusal(INVALID_ARGUMENT, "output tensor alias not found in signature: " + what)
            if alias in aliases[:place]:
                raise Refusal(INVALID_ARGUMENT, "duplicate output tensor alias: " + alias)
        aliases = aliases or list(signature.outputs)
        fetches = [signature.outputs[alias].name for alias in aliases]
        outputs = self.run(request.model_spec.name, version, feeds, fetches, timeout_s)
        return number, key, dict(zip(aliases, outputs))

    def _feeds(self, request, signature):
        given, wanted = sorted(request.inputs), sorted(signature.inputs)
        if len(given) != len(wanted):
            extra = ",".join(name for name in given if name not in wanted)
            missing = ",".join(name for name in wanted if name not in given)
            raise Refusal(
                INVALID_ARGUMENT,
                f"input size does not match signature: {len(given)}!={len(wanted)} len({{{','.join(given)}}}) != "
                f"len({{{','.join(wanted)}}}). Sent extra: {{{extra}}}. Missing but required: {{{missing}}}.",
            )
        feeds = []
        for alias, proto in request.inputs.items():
            if alias not in signature.inputs:
                known = ",".join(wanted)
                what = (
                    f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set {{{known}}}."
                )
                raise Refusal(INVALID_ARGUMENT, what)
            try:
                feeds.append((signature.inputs[alias].name, tensor_of(proto)))
            except (ValueError, TypeError, KeyError):
                raise Refusal(INVALID_ARGUMENT, "tensor parsing error: " + alias) from None
        return feeds

    def examples(self, spec, examples, method, timeout_s):
        """The version, the signature's name, and the outputs of a classification or a regression."""
        version, number = self.find(spec)
        key = spec.signature_name or "serving_default"
        kind = "classification" if method.endswith("classify") else "regression"
        if key not in version.signatures:
            raise Refusal(INVALID_ARGUMENT, "No signature was found with the name: " + key)
        signature = version.signatures[key]
        if signature.method_name != method:
            what = f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
            raise Refusal(INVALID_ARGUMENT, what)
        if not examples:
            raise Refusal(INVALID_ARGUMENT, "Input is empty.")
        feed = numpy.array([*examples, None], dtype=object)[:-1]
        aliases = list(signature.outputs)
        fetches = [signature.outputs[alias].name for alias in aliases]
        outputs = self.run(spec.name, version, [(signature.inputs["inputs"].name, feed)], fetches, timeout_s)
        return number, key, dict(zip(aliases, outputs))
