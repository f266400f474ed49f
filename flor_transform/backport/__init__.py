"""Put a log statement of today's script where its author would have put it in an older version, or say why not."""

from __future__ import annotations

from flor_transform.backport.engine import backport
from flor_transform.backport.plan import BackportResult, Placement, Refusal
from flor_transform.backport.project import ProjectResult, backport_project

__all__ = ["BackportResult", "Placement", "ProjectResult", "Refusal", "backport", "backport_project"]
