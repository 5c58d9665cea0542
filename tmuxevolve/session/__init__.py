"""What the verbs do: joins GPUs, claims, windows and processes. Prints nothing."""
