"""What a new CANN calls for, carrying it out, and watching for it."""
