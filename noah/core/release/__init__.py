"""What a release is, which events it consists of, and how they are kept."""
