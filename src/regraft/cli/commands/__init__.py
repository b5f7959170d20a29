"""One module for each command. It is imported only when its command runs, since it imports large libraries."""
