"""Hosts of the sandbox: a folder as root file system, and a small stand-in for systemd."""
