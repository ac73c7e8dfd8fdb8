"""``python -m gpux``: the command line."""

from gpux.cli.main import main

if __name__ == "__main__":
    main()
