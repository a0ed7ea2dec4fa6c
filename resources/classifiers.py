"""The recipe's classifiers as a Dagster resource."""
