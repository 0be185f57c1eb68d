"""Frozen graphs, checkpoints and SavedModels turned into SavedModels that are served, of operators or of an om."""
