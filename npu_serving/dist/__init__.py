"""The finished builds in dist/: their manifests, whether they start, which is current, going back, tidying up."""
