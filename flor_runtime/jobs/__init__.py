"""Jobs that are done one after the other, by as many servers as one likes: batches of runs, and replays."""
