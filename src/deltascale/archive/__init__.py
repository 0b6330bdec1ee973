"""What makes a study checkable: the lock of its meaning."""
