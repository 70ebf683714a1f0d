"""The HTTP edge: the hardened server, the route table and a handler file per noun."""
