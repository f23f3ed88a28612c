"""Linear probes: who is held out, the classifier, and accuracies with intervals."""
