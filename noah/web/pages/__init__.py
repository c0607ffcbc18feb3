"""The web pages: templates, their scripts, and the handlers that render them."""
