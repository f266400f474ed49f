"""Where replay jobs run."""
