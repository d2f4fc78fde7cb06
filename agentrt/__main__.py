"""`python -m agentrt` is the command `agentrt`."""

import sys

from agentrt.cli import main

if __name__ == "__main__":
    sys.exit(main())
