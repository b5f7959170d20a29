"""The local page and the HTTP protocols: predictors answer photos over the network."""
