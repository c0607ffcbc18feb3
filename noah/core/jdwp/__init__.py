"""The Java Debug Wire Protocol, understood from passing bytes without any I/O."""
