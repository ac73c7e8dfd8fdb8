"""Download of model files: connections, byte ranges, partial files, retries."""
