"""Read photos into labelled data sets of RGB pixels, and split the data sets into train, val and test."""
