"""``python -m tmuxevolve``."""

from tmuxevolve.cli import main

if __name__ == "__main__":
    main()
