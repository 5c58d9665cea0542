"""Pictures and pages of a run. Each module is loaded only by the command that needs it."""
