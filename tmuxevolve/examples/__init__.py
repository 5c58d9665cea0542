"""Programs to try tmuxevolve with; they run anywhere, without a GPU and without a download."""
