"""The first process of a window: ``python -I -S worker_entry.py ADDRESS WORKER``.

Isolated mode keeps the tmux server's old environment and the current directory out of it, and with
them a user's own site-packages. Without ``site`` it starts in two thirds of the time; keeper.py
loads that when it needs an installed package. So the package's folder is put on the path here.
"""

import sys

# Not pathlib: its import would take as long as all the rest.
sys.path.append(__file__.rpartition("/")[0].rpartition("/")[0])

from tmuxevolve.keeper import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
