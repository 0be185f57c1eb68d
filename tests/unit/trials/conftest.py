"""What the tests of this room share with those of the others about servers."""

from serving_fixtures import artifact, checked_machine, model, site, world

__all__ = ["artifact", "checked_machine", "model", "site", "world"]
