"""The first process of a window in GNU screen: ``python -I -S screen_entry.py PLACE WORKER``."""

import sys

sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from tmuxevolve.screen_window import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
