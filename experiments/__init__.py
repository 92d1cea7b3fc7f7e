"""The experiments of the papers, each by name: ``python -m experiments`` lists them."""
