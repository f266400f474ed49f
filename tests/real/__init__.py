"""Laws 3 and 4 on training scripts of other people, by bits: raw, off and recorded runs are the same.

`python -m tests.real --corpus FOLDER --data FOLDER [CASE ...]`; see tests/README.md. Nothing of those scripts is here: `cases.tsv`
says how to run them.
"""
