"""What CodeDeploy was told, and what runs where."""
