"""Cases of backporting, what is right of a result, and the programs that are asked: for `backport_peers`."""
