"""``python -m holdwire`` is the command ``holdwire``. Not responsible for anything else."""

from __future__ import annotations

import sys

from holdwire.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
