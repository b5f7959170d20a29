"""What the features of photos tell without a head: files of features, and similar photos."""
