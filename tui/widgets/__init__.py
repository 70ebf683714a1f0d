"""Widgets of the dashboard, each drawn line by line."""
