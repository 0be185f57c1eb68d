"""What a new CANN requires, doing it, and watching for it."""
