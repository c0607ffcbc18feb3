"""The only code that imports kubernetes_asyncio."""
