"""One reader for the YAML and JSON files that people or machines write: frozen dataclasses out of them.

All mistakes of a file are reported at once, each as FILE:LINE:COLUMN: path.to.key: what is wrong. syntax.py reads YAML
and JSON, kinds.py knows which types a document may hold, layers.py makes one document of several.
"""

from npu_serving.documents.kinds import FieldsOf, FromText, NamedValues, Rule
from npu_serving.documents.layers import SourcePlace, Sources, read_layers, read_with_sources
from npu_serving.documents.reader import (
    DocumentRefusal,
    json_schema,
    parse_document,
    read_document,
)
from npu_serving.documents.syntax import JSON, YAML

__all__ = [
    "JSON",
    "YAML",
    "DocumentRefusal",
    "FieldsOf",
    "FromText",
    "NamedValues",
    "Rule",
    "SourcePlace",
    "Sources",
    "json_schema",
    "parse_document",
    "read_document",
    "read_layers",
    "read_with_sources",
]
