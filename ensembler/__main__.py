"""`ens` and `python -m ensembler`."""

import sys
import time
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    began = time.monotonic()
    try:
        from ensembler.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit("error: stopped; give the same command again")
    run(began)


if __name__ == "__main__":
    main()
