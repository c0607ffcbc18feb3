"""The targets that exist and who holds them, kept in memory and updated per change. Knows no way to reach one."""
