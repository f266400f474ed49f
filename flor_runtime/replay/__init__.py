"""Re-execution of recorded runs for values that nobody logged."""
