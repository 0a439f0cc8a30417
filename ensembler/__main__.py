"""`ens` and `python -m ensembler`."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    try:
        from ensembler.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit("error: stopped; give the same command again")
    run()


if __name__ == "__main__":
    main()
