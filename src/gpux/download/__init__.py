"""Downloading the files of a model: connections, partial files, retries."""
