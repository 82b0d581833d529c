"""``python -m worldmodel`` is the command ``worldmodel``."""

import sys

from worldmodel.cli import main

if __name__ == "__main__":  # a collecting process imports this file again
    sys.exit(main())
