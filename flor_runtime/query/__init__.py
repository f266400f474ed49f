"""Runs and log records as tables."""
