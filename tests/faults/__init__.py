"""What goes wrong outside: workers that are killed."""
