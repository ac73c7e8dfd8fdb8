"""The revisions, by their ids."""
