"""What the tests of this room share with those of the others about servers."""

from serving_fixtures import artifact, model

__all__ = ["artifact", "model"]
