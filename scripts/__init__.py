"""What maintainers run, through nox."""
