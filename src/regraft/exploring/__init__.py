"""What the features of photos tell: what is wrong, files of features, similar photos, and which photos to label."""
