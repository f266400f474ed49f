"""Runs as other tools read them: TensorBoard, MLflow, trackio, csv, parquet.

`gather` makes plain data of the chosen runs, one module a format writes it, and each brings what is there already up
to date: exporting twice doubles nothing. A library of a format is imported when something is written in it.
"""
