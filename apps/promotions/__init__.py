"""Who may rise, and when."""
