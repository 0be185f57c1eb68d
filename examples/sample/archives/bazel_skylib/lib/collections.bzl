"""Help with lists, loaded while packages are read: an archive that is needed although nothing of it is compiled."""

def _uniq(items):
    """The items in their order, each once."""
    kept = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept

collections = struct(uniq = _uniq)
