"""`ens` and `python -m ensembler`."""

from ensembler.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
