"""What other libraries know of a run and we take over: parameters and tracked metrics. Nothing is imported for it."""
