"""Faults of our own making: each is put into a copy of the packages, where a named test has to fail.

`python -m tests.seeded [NAME ...] -j N` tries them and says which are caught and which survive.
"""
