"""The function `regraft.train`: from labelled photos to a classifier and its run folder."""
