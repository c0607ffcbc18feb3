"""What is decided about an app on a KVM host: its options file, and edits of it."""
