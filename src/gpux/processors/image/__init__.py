"""Image processors: pictures to pixel values."""
