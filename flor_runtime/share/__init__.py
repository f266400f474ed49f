"""Runs on a branch of their own, `flor.shadow.<branch>`, for colleagues: docs/sharing.md has its format."""
