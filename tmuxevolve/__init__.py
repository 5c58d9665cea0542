"""Hyperparameter evolution on every free GPU of a bare-metal box, in tmux windows."""

__version__ = "0.1.0"
