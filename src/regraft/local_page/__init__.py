"""The page of the server: try, correct and grow a classifier in a browser."""
