"""Supervised actors on trio, round a pure workflow core (`actors.flow`)."""
