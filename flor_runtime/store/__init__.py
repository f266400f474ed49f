"""The local store: what a run leaves on disk."""
