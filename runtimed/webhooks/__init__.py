"""Webhooks: how each provider signs, and which webhooks there are. Pure; the route is `runtimed/http/webhooks.py`."""
