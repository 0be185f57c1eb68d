"""The paths of TensorFlow Serving's REST API."""

from __future__ import annotations

import urllib.parse

# Characters that may appear in a URL's path as they are (RFC 3986, pchar), but for those that end a model's name: the
# server does not decode what it finds there, so as little as possible is encoded.
SAFE_IN_NAME = "!$&'()*+,;=@"


def model_path(model: str) -> str:
    """The path of a model in a server's REST API. UnicodeEncodeError for a name with half of a character in it."""
    return f"/v1/models/{urllib.parse.quote(model, safe=SAFE_IN_NAME)}"
