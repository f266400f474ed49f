"""Record, replay, store and query: what runs while a user's script runs, and what reads it afterwards."""
