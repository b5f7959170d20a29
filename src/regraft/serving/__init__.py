"""The HTTP server and its protocols: predictors answer photos over the network."""
