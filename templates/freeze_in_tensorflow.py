"""The variables of a SavedModel made constants by TensorFlow 1.15: what convert-om --tensorflow-python runs.

python freeze_in_tensorflow.py MODEL OUTPUT REQUEST, where REQUEST is JSON with the tags, and the names of the nodes
whose values are wanted. Prints one line of JSON last: the release of TensorFlow, and what went wrong.
"""

# mypy: ignore-errors

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(model: str, output: str, request: str) -> dict[str, str]:
    """Writes the frozen graph to `output`; the release, and the error where there is one."""
    try:
        import tensorflow
    except ImportError as error:
        return {"version": "", "error": f"TensorFlow can't be imported: {error}"}
    version = str(tensorflow.__version__)
    if not version.startswith("1.15."):
        return {"version": version, "error": ""}
    v1 = tensorflow.compat.v1
    v1.logging.set_verbosity(v1.logging.ERROR)
    wanted = json.loads(request)
    try:
        with v1.Session(graph=v1.Graph()) as session:
            v1.saved_model.load(session, wanted["tags"], model)
            frozen = v1.graph_util.convert_variables_to_constants(
                session, session.graph.as_graph_def(), wanted["nodes"]
            )
        content = frozen.SerializeToString()
    except Exception as error:
        return {"version": version, "error": f"{type(error).__name__}: {error}"}
    with open(output, "wb") as file:
        file.write(content)
    return {"version": version, "error": ""}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4])))  # noqa: T201 - the answer to whoever started it
