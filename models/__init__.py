"""The network, its data, its training and its evaluation (extras `train` and `eval`)."""
