"""Facts about a model from file names, headers, configuration and card. Pure: downloads nothing."""
