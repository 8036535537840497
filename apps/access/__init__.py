"""Who may sign in: people, service accounts and their tokens."""
