"""What ships, where it may go, and who works on it."""
