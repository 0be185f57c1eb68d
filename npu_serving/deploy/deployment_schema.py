"""The JSON Schema of deployment.yaml, made from its types, by which an editor completes and checks the file."""

from __future__ import annotations

import json

from npu_serving import fsutil
from npu_serving.deploy.deployment_file import SCHEMA, DeploymentFile
from npu_serving.documents import json_schema
from npu_serving.settings import PROJECT_ROOT


def schema_text() -> str:
    """The file docs/deployment.schema.json."""
    return json.dumps(json_schema(DeploymentFile), indent=2) + "\n"


def schema_is_current() -> bool:
    """Whether that file is what the types say."""
    path = PROJECT_ROOT / SCHEMA
    return path.is_file() and fsutil.read_text(path) == schema_text()


def write_schema() -> None:
    """Makes it so."""
    fsutil.write_file(PROJECT_ROOT / SCHEMA, schema_text())
