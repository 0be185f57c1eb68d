"""A serving tree's WORKSPACE evaluated to a lock: every archive that it declares, with its digest and who needs it."""
