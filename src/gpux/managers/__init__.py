"""Sources of models: the interface of a manager, the registry, and models in local folders."""
