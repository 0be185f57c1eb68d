"""tensorflow_peer.py with TensorFlow Serving's flags, its list of models and its poll: run by TensorFlow's Python.

usage: PYTHON tensorflow_model_server.py --port=N --rest_api_port=N --model_config_file=FILE ...

As TensorFlow Serving 1.15.0 does it: versions by the policy of each model, found by a poll alone; a new version is
loaded before others are unloaded; one that can't be is END with its error, and what answered goes on; a version that is
there is never loaded again; ReloadConfig waits for models that are new, and takes a label for a version that is
AVAILABLE only (a new label for any, with --allow_version_labels_for_unavailable_models). Other than there, a second of
the poll takes a tenth of one, so that tests don't wait.
"""

# mypy: ignore-errors

import sys
import tempfile
import threading
import time
from pathlib import Path

import tensorflow
from google.protobuf import text_format
from tensorflow_peer import Calls, Counters, grpc_server, rest_server
from tensorflow_peer_core import Models, Version
from tensorflow_peer_faults import FAILED_PRECONDITION, INVALID_ARGUMENT, UNKNOWN, Faults, Refusal
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

LOADING, AVAILABLE, END = 20, 30, 50


class PolledModels(Models):
    """Models of a list, whose directories are looked at again and again."""

    def __init__(self, configs, faults, allow_labels):
        self.faults, self.batchers, self.lock = faults, {}, threading.Lock()
        self.states, self.served, self.labels, self.failed = {}, {}, {}, {}
        self.turn = threading.RLock()
        self.allow_labels = allow_labels
        self.configs = {}
        self.take(configs)

    def take(self, configs):
        """This list in place of the one that it has. Raises Refusal."""
        with self.turn:
            for config in configs:
                if not config.base_path.startswith("/"):
                    what = "Expected model {0} to have an absolute path or URI; got base_path()={1}"
                    raise Refusal(INVALID_ARGUMENT, what.format(config.name, config.base_path))
            new = [config.name for config in configs if config.name not in self.configs]
            for name in set(self.configs) - {config.name for config in configs}:
                for number in list(self.served.get(name, {})):
                    self.unload(name, number)
            self.configs = {config.name: config for config in configs}
            for name in new:
                self.poll(name)
            broken = [name for name in new if not self.served.get(name)]
            if broken:
                what = f"{len(broken)} servable(s) did not become available: {{{', '.join(broken)}}}"
                raise Refusal(UNKNOWN, what)
            for config in configs:
                self.take_labels(config)

    def take_labels(self, config):
        known = self.labels.get(config.name, {})
        for label, number in config.version_labels.items():
            is_new = label not in known
            if number not in self.served.get(config.name, {}) and not (self.allow_labels and is_new):
                what = f"Request to assign label to version {number} of model {config.name}"
                raise Refusal(FAILED_PRECONDITION, what + ", which is not currently available for inference")
        self.labels[config.name] = dict(config.version_labels)

    def poll(self, name):
        config = self.configs[name]
        try:
            there = {int(place.name): place for place in Path(config.base_path).iterdir() if place.name.isdigit()}
        except OSError:
            return
        policy = config.model_version_policy
        kind = policy.WhichOneof("policy_choice")
        if kind == "all":
            wanted = set(there)
        elif kind == "specific":
            wanted = set(policy.specific.versions) & set(there)
        else:
            wanted = set(sorted(there)[-max(policy.latest.num_versions, 1) :])
        served = self.served.setdefault(name, {})
        failed = self.failed.setdefault(name, set())
        failed &= wanted
        for number in sorted(wanted - set(served) - failed):
            states = self.states.setdefault(name, {})
            states[number] = (LOADING, 0, "")
            try:
                loaded = Version(there[number])
            except Exception as error:
                states[number] = (END, INVALID_ARGUMENT, str(error))
                failed.add(number)
                continue
            self.served[name] = served = {**served, number: loaded}
            states[number] = (AVAILABLE, 0, "")
        if wanted <= failed and wanted:
            return  # the policy that keeps a model available unloads nothing for a version that does not load
        for number in set(served) - wanted:
            self.unload(name, number)

    def unload(self, name, number):
        self.served[name] = {other: version for other, version in self.served[name].items() if other != number}
        self.states[name][number] = (END, 0, "")

    def poll_for_ever(self, seconds):
        while True:
            time.sleep(seconds / 10)
            with self.turn:
                for name in list(self.configs):
                    self.poll(name)


class ListedCalls(Calls):
    """The answers of both APIs; a new list of models is taken whole."""

    def reload_config(self, data, _timeout_s):
        request = model_management_pb2.ReloadConfigRequest.FromString(data)
        self.models.take(list(request.config.model_config_list.config))
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def main(words):
    flags = dict(word[2:].partition("=")[::2] for word in words)
    tensorflow.compat.v1.logging.set_verbosity(tensorflow.compat.v1.logging.ERROR)
    listed = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(Path(flags["model_config_file"]).read_text(), listed)
    faults, counters = Faults(), Counters()
    allow = flags.get("allow_version_labels_for_unavailable_models") == "true"
    models = PolledModels(list(listed.model_config_list.config), faults, allow)
    seconds = float(flags.get("file_system_poll_wait_seconds", 1))
    if seconds:
        threading.Thread(target=models.poll_for_ever, args=(seconds,), daemon=True).start()
    calls = ListedCalls(models)
    with tempfile.TemporaryDirectory() as place:
        socket = str(Path(place) / "grpc")
        server, _ = grpc_server(calls, counters, faults, socket, int(flags["port"]))  # without a name it would end
        rest = rest_server(calls, counters, faults, int(flags["rest_api_port"]))
        print(f"Exporting HTTP/REST API at:localhost:{flags['rest_api_port']} ...", flush=True)
        rest.serve_forever()
        server.stop(0)


if __name__ == "__main__":
    main(sys.argv[1:])
