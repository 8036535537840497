"""What the CodeDeploy hooks do on a host. Standard library only: it runs before any environment exists."""
