"""The models of all chat providers in one list, searched, and in detail."""

from __future__ import annotations

from gpux.chat.providers.registry import ModelLists, ModelProviderRegistry
from gpux.chat.values import ModelDetails, ModelInfo


class ModelListAggregator:
    """Reads the lists of a registry.

    Args:
        registry: the providers; its lists are read from memory where they are fresh.
    """

    def __init__(self, registry: ModelProviderRegistry) -> None:
        self._registry = registry

    async def aggregate_model_lists(self) -> list[ModelInfo]:
        """The models of every provider that answers, by the priority of the providers and then by name."""
        return (await self.lists()).models

    async def lists(self) -> ModelLists:
        """The same, and why the models of some providers are missing or not as they are now."""
        return await self._registry.lists()

    async def get_models_by_provider(self, provider_name: str) -> list[ModelInfo]:
        """The models of one provider.

        Raises:
            ProviderNotFoundError: there is no such provider.
            GpuxError: its list is not available.
        """
        return await self._registry.models_of(provider_name)

    async def search_models(
        self, query: str, *, provider: str | None = None, supports_vision: bool | None = None
    ) -> list[ModelInfo]:
        """The models in whose name, description, architecture or license every word of the query occurs.

        Args:
            query: words, of which case does not count; an empty one finds all.
            provider: search the models of this one.
            supports_vision: search models that read images, or those that do not.

        Raises:
            ProviderNotFoundError: there is no such provider.
            GpuxError: the list of ``provider`` is not available.
        """
        if provider is None:
            models = await self.aggregate_model_lists()
        else:
            models = await self.get_models_by_provider(provider)
        words = query.casefold().split()
        return [
            one
            for one in models
            if supports_vision in (None, one.capabilities.supports_vision)
            and all(word in _searched(one) for word in words)
        ]

    async def get_model_details(self, model_name: str) -> ModelDetails:
        """Everything that the provider of a model says about it.

        Raises:
            ProviderNotFoundError: see :meth:`ModelProviderRegistry.route`.
            ModelNotFoundError: the provider does not have the model.
            ProviderError: that is not known now.
        """
        route = await self._registry.route(model_name)
        return await route.provider.model_details(route.model)


def _searched(model: ModelInfo) -> str:
    texts = (
        *(model.name, model.provider, model.display_name, model.description),
        *(model.metadata.architecture, model.metadata.license),
    )
    return " ".join(text for text in texts if text).casefold()
