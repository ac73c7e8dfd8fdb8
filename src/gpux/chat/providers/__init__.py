"""The built-in chat providers, registered as entry points like those of third parties."""
