"""What a server counts about its models, for metrics. Plain attributes: whoever counts adds, whoever shows reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Stats:
    """Counts since the start, by the name of the model; only names of stored models occur."""

    requests: Counter[str] = field(default_factory=Counter)  #: leases that were granted
    wait_seconds: dict[str, float] = field(default_factory=dict)  #: sum over the requests, until the model was loaded
    loads: Counter[str] = field(default_factory=Counter)  #: that succeeded
    load_seconds: dict[str, float] = field(default_factory=dict)  #: sum over the loads
    load_failures: Counter[str] = field(default_factory=Counter)
    unloads: Counter[str] = field(default_factory=Counter)  #: by keep_alive, by request, and evictions
    evictions: Counter[str] = field(default_factory=Counter)  #: for another model
    deaths: Counter[str] = field(default_factory=Counter)  #: processes that ended without being asked to
    restarts: Counter[str] = field(default_factory=Counter)  #: loads after a death, without a request
    busy: Counter[str] = field(default_factory=Counter)  #: requests that found the model's queue full
    cancelled: Counter[str] = field(default_factory=Counter)  #: requests whose client left
    deadlines: Counter[str] = field(default_factory=Counter)  #: requests that took longer than request_timeout
    slow_readers: Counter[str] = field(default_factory=Counter)  #: requests whose client did not read
    overloaded: int = 0  #: requests that were refused since no memory became free
    pulls: int = 0  #: started for requests or by the API

    def granted(self, model: str, waited: float) -> None:
        """A request has the model after so many seconds."""
        self.requests[model] += 1
        self.wait_seconds[model] = self.wait_seconds.get(model, 0.0) + waited
