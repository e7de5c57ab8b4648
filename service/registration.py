"""Principals on disk, entered in the catalogue."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.orm import Session

from cage_core.principals.catalogue import Principal, find_principals
from learner.store.tenants import CatalogueEntry, feature_scales, register_principals
from service.settings import ModelSettings


def registered(session: Session, settings: ModelSettings) -> tuple[Principal, ...]:
    """The principals on disk, entered in the catalogue, with the feature scales that they have there.

    The catalogue keeps the scale of the first registration: features logged since then were divided by it.

    Raises:
        InvalidModel: a principal's directory is unusable.
    """
    principals = find_principals(*settings.principal_directories)
    register_principals(session, [CatalogueEntry(p.name, p.kind, p.description, p.feature_scale) for p in principals])
    scales = feature_scales(session)
    return tuple(replace(p, feature_scale=scales[p.name]) for p in principals)
