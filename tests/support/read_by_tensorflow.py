"""What TensorFlow 1.15.0 and the published protos of its serving API read in a deployment's files: run by their Python.

usage: PYTHON read_by_tensorflow.py DIRECTORY   (prints one JSON document)

The API's package has the list of models, but no platform config: of that, the session configs are read, as they stand
in the text, and each makes a session.
"""

# mypy: ignore-errors

import json
import re
import sys
from pathlib import Path

import tensorflow
from google.protobuf import json_format, text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

SESSION = re.compile(r"^( *)session_config \{\n(.*?)^\1\}\n", re.MULTILINE | re.DOTALL)


def text_of(directory, name):
    return (Path(directory) / name).read_text(encoding="utf-8")


def plain(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def main(directory):
    models = text_format.Parse(text_of(directory, "models.config"), model_server_config_pb2.ModelServerConfig())
    sessions = []
    for _, body in SESSION.findall(text_of(directory, "config.cfg")):
        config = text_format.Parse(body, config_pb2.ConfigProto())
        tensorflow.compat.v1.Session(config=config).close()
        sessions.append(plain(config))
    print(json.dumps({"models": plain(models)["model_config_list"]["config"], "sessions": sessions}))


if __name__ == "__main__":
    main(sys.argv[1])
