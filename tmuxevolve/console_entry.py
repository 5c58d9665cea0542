"""A job's step: ``python -I -S console_entry.py ADDRESS WORKER MARK [FIFO]``; see console.py."""

import sys

sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from tmuxevolve.console import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
