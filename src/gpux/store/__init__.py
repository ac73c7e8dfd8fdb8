"""gpux's own folder of runnable variants: each whole, hashed, described by a manifest, and visible only when complete.

The layout is that of :mod:`gpux.store.layout`; every write is atomic, so that a reader sees the old state or the new.
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
