"""Finished builds in dist/: manifest, bill of materials, provenance, verification, current, rollback, pruning."""
