"""YAML files for the command line; `default.yaml` is what `python train.py` runs."""
