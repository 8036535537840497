"""Builds, their test reports and test cases."""
