"""The dashboard: a Textual app in a process of its own, on asyncio; it speaks to the daemon as any client does."""
