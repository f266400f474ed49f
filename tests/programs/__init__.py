"""Generated training programs, and the proof that instrumentation and replay give what the raw program gives.

`pieces.py` holds the words, `grammar.py` puts programs together, `oracle.py` runs one in all ways and compares,
`minimize.py` makes a failing one small. `python -m tests.programs --count 100000 -j 2` runs many.
"""
