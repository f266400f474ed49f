"""Runs that other tools recorded, read from their files and put into the store: nothing of them is ever run.

Their stores are only read, by this program itself: no library of the tool opens them, which might migrate them or load
what they hold. Files that runs refer to (artifacts, checkpoints) are never looked at.
"""
