"""This machine and this process: settings, files, disk, processes, cancellation and progress."""
