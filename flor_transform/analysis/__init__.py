"""Read-only: source in, facts out."""
