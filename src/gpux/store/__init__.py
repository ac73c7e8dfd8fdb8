"""gpux's own folder of runnable variants: each is complete, hashed and described by a manifest before it is visible.

:mod:`gpux.store.layout` describes the folders. Every write is atomic: readers see the old state or the new one.
"""

from __future__ import annotations

from gpux.store.listing import DamagedVariant
from gpux.store.manifest import MANIFEST, read_manifest, write_manifest
from gpux.store.refs import Alias, RecordedRef
from gpux.store.removal import Removal, RemovalPlan
from gpux.store.staging import Staging, place
from gpux.store.store import Store
from gpux.store.verify import Problem, VerifyReport

__all__ = [
    "MANIFEST",
    "Alias",
    "DamagedVariant",
    "Problem",
    "RecordedRef",
    "Removal",
    "RemovalPlan",
    "Staging",
    "Store",
    "VerifyReport",
    "place",
    "read_manifest",
    "write_manifest",
]
