"""The configuration of chat providers: a TOML file and environment variables, validated as a whole.

:class:`~gpux.chat.configuration.service.ModelConfigurationService` reads, follows and writes it;
``docs/reference/settings.md`` lists all keys and variables.
"""

from __future__ import annotations

from gpux.chat.configuration.faults import Fault
from gpux.chat.configuration.service import ModelConfigurationService
from gpux.chat.configuration.versions import Version

__all__ = ["Fault", "ModelConfigurationService", "Version"]
