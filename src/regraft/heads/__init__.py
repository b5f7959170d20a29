"""Heads: the classifiers that regraft trains on features, such as logistic regression and nearest class mean."""
