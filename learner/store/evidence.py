"""Evidence in and out of its columns: the upper triangle of the precision, row by row."""

from typing import Any

import numpy as np

from learner.evidence import Evidence
from learner.store.models import EvidenceColumns


def evidence_of(row: EvidenceColumns) -> Evidence:
    """The evidence that a row holds."""
    size = len(row.principals) + 1
    rows, columns = np.triu_indices(size)
    precision = np.zeros((size, size), np.int64)
    precision[rows, columns] = precision[columns, rows] = row.precision
    return Evidence(tuple(row.principals), precision, np.array(row.linear, np.int64), row.feedback_count)


def evidence_columns(evidence: Evidence) -> dict[str, Any]:
    """Column values that hold this evidence."""
    upper = np.triu_indices(len(evidence.principals) + 1)
    return {
        "principals": list(evidence.principals),
        "precision": evidence.precision[upper].tolist(),
        "linear": evidence.linear.tolist(),
        "feedback_count": evidence.feedback_count,
    }


def set_evidence(row: EvidenceColumns, evidence: Evidence) -> None:
    """Let a row hold this evidence."""
    for column, value in evidence_columns(evidence).items():
        setattr(row, column, value)
