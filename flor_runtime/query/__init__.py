"""Runs and log records as tables. pandas is loaded when a table is made, not before."""

from flor_runtime.query.listing import log_records
from flor_runtime.query.pivot import dataframe, full_pivot
from flor_runtime.query.sql import query

__all__ = ["dataframe", "full_pivot", "log_records", "query"]
