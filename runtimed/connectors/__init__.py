"""The kinds of connectors that configuration knows, a module each."""
