"""The dashboard's screens, a file an area."""
